"""Compares the quantization schemes: size, speed, and what each costs in accuracy.

    python -m bench.schemes                 every scheme in conf/quantization, on both sets of pictures
    python -m bench.schemes --rounding      nearest against calibrated rounding, and the quantizer's other algorithms
    python -m bench.schemes --calibration   data/calibration against a sample of the pictures that heads are trained on

Two sets of pictures. `samples` are the project's own frames: those of a finished `dvc repro`, else frames are made in
the cache folder. `elpv` are 2,624 electroluminescence pictures of solar cells, defective (probability of at least 0.5)
or not: a hard set of two classes, from the package elpv-dataset (CC BY-NC-SA; pip install elpv-dataset), left out if
that is not installed.

A head is a logistic regression; of several regularizations the one that is best on a validation part is taken. Parts
come from repeated stratified cross-validation, in which all frames of a take stay together. A difference is the mean
over units (takes or pictures) of this scheme's accuracy minus float32's, and its error is the standard error over
units. Features are kept in the cache folder, so that a second run takes seconds.
"""

import argparse
import hashlib
import importlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import joblib
import numpy as np
import pandas as pd
import yaml
from omegaconf import OmegaConf
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from pipeline.config.quantization import QuantizationConfig
from pipeline.files import layout, sha256_of_bytes, write_bytes
from pipeline.images.calibration import read_calibration
from pipeline.images.codec import decode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.litert.head import append_head
from pipeline.litert.interpreter import Model
from pipeline.litert.model_file import check_builtin, check_scheme
from pipeline.litert.quantizer import quantize
from pipeline.takes.splits import read_takes
from pipeline.takes.tables import read_parquet

PROJECT = Path(__file__).resolve().parents[1]
REFERENCE = "float32"
REGULARIZATIONS = 10.0 ** np.arange(-3, 2, 0.5)  # scikit-learn's C: larger is weaker
NUM_FOLDS = 5  # three to fit, one to choose the regularization, one to test
NUM_TRAIN_CALIBRATION = 100  # as many pictures as the fixed set has, nearly
NUM_LATENCY_ROUNDS = 100
COLUMNS = {
    "MiB": "the classifier's file: backbone and a head of two labels",
    "ms": "median latency of the classifier on this machine, one thread, the schemes taking turns",
    "error": "relative error of the features: |features - float32's| / |float32's|, over all pictures",
    "own": "accuracy in percent, head trained on this scheme's own features",
    "own-f32": "that minus the accuracy of float32, in points, and its standard error",
    "f32head": "accuracy in percent, head trained on float32 features",
    "f32head-f32": "that minus the accuracy of float32, in points, and its standard error",
    "agree": "percent of test pictures that get the same label as from float32 (own heads)",
}


@dataclass(frozen=True)
class Pictures:
    """A labelled set.

    Attributes:
        name: `samples` or `elpv`.
        inputs: uint8 [num, p, p, 3], 0..255.
        labels: int64 [num].
        units: int64 [num], which take a picture belongs to; pictures of a unit are never parted.
    """

    name: str
    inputs: np.ndarray
    labels: np.ndarray
    units: np.ndarray


@dataclass(frozen=True)
class Scores:
    """What cross-validation gives: for each picture, the share of repetitions in which it was right.

    Attributes:
        own: With the head trained on own features, float64 [num].
        crossed: With the head trained on float32 features, float64 [num].
        agreement: Share of repetitions with float32's label, float64 [num].
    """

    own: np.ndarray
    crossed: np.ndarray
    agreement: np.ndarray


# Models


def schemes() -> dict[str, QuantizationConfig]:
    """Read conf/quantization, the reference first."""
    paths = sorted((PROJECT / "conf" / "quantization").glob("*.yaml"), key=lambda path: (path.stem != REFERENCE, path))
    merged = {
        path.stem: OmegaConf.merge(OmegaConf.structured(QuantizationConfig), OmegaConf.load(path)) for path in paths
    }
    return {name: cast(QuantizationConfig, OmegaConf.to_object(values)) for name, values in merged.items()}


def roundings() -> dict[str, QuantizationConfig]:
    """Return every way that was tried to round the weights of each integer scheme."""
    chosen = schemes()
    found = {REFERENCE: chosen[REFERENCE]}
    for name, config in chosen.items():
        if config.weight_type == "int":
            found[f"{name} calibrated"] = replace(config, rounding="calibrated")
            for algorithm in ("min_max_uniform_quantize", "MSE", "OCTAV"):
                found[f"{name} {algorithm}"] = replace(config, rounding="nearest", algorithm=algorithm)
    return found


def quantized(backbone: bytes, config: QuantizationConfig, calibration: np.ndarray, cache: Path) -> bytes:
    """Quantize and check, or take it from the cache."""
    code = b"".join(path.read_bytes() for path in sorted((PROJECT / "pipeline" / "litert").glob("*.py")))
    key = hashlib.sha256(backbone + repr(config).encode() + calibration.tobytes() + code).hexdigest()[:24]
    path = cache / f"{key}.tflite"
    if not path.is_file():
        content = quantize(backbone, config, list(calibration), num_threads=os.cpu_count() or 1)
        check_builtin(content, config.scheme)
        check_scheme(content, config, config.scheme)
        write_bytes(path, content)
    return path.read_bytes()


def latencies_ms(models: dict[str, bytes], picture: np.ndarray) -> dict[str, float]:
    """Return the median latency of each model on one thread; they take turns, so that a busy machine hits all alike."""
    loaded = {name: Model(content) for name, content in models.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(NUM_LATENCY_ROUNDS):
        for name, model in loaded.items():
            begin = time.perf_counter()
            model(picture)
            times[name].append(1000 * (time.perf_counter() - begin))
    return {name: float(np.median(values)) for name, values in times.items()}


def with_head(backbone: bytes) -> bytes:
    """Append a head of two labels; what it answers does not matter for size and speed."""
    num_features = Model(backbone).output_length
    return append_head(backbone, np.zeros((num_features, 2), np.float32), np.zeros(2, np.float32))


def features(content: bytes, inputs: np.ndarray, cache: Path) -> np.ndarray:
    """Run a model over pictures, float32 [num, feature_length], or take the result from the cache."""
    path = cache / f"{hashlib.sha256(content + sha256_of_bytes(inputs.tobytes()).encode()).hexdigest()[:24]}.npy"
    if not path.is_file():
        thread = threading.local()

        def run(picture: np.ndarray) -> np.ndarray:
            if not hasattr(thread, "model"):
                thread.model = Model(content)
            return cast(np.ndarray, thread.model(picture))

        with ThreadPoolExecutor(os.cpu_count()) as executor:
            computed = np.array(list(executor.map(run, inputs)))
        with path.with_suffix(".partial").open("wb") as file:
            np.save(file, computed)
        path.with_suffix(".partial").replace(path)
    return cast(np.ndarray, np.load(path))


# Pictures


def workspace(cache: Path) -> Path:
    """Return a folder with a converted backbone, frames and splits: the project's, or one where they are made."""
    needed = (layout.CONVERTED_BACKBONE, layout.SPLITS, layout.FRAMES)
    if all((PROJECT / path).exists() for path in needed):
        return PROJECT
    folder = cache / "project"
    for path in (layout.VIDEOS, layout.PHOTOS, layout.CALIBRATION):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if (PROJECT / path).exists() and not (folder / path).exists():
            (folder / path).symlink_to(PROJECT / path)
    choices = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    stages = {"backbone": [f"backbone={choices['backbone']}"]}
    if (PROJECT / layout.VIDEOS).exists():
        stages |= {
            name: [f"{name}.{key}={value}" for key, value in choices[name].items()] for name in ("split", "frames")
        }
    for (stage, overrides), output in zip(stages.items(), needed, strict=False):
        if not (folder / output).exists():
            command = [sys.executable, "-m", f"pipeline.{stage}", *overrides]
            subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(PROJECT)}, check=True)
    return folder


def samples(folder: Path, input_pixels: int) -> Pictures | None:
    """Read the frames of all takes, in the order of the split file."""
    if not (folder / layout.SPLITS).is_file():
        print("samples: left out, as data/videos is missing; `make samples` renders it\n")
        return None
    takes = read_takes(folder / layout.SPLITS)
    names = sorted({take.label for take in takes})
    inputs, labels, units = [], [], []
    for unit, take in enumerate(takes):
        for image in read_parquet(folder / layout.FRAMES / take.table)["image"].to_pylist():
            inputs.append(to_model_input(decode_jpeg(image), input_pixels, "stretch"))
            labels.append(names.index(take.label))
            units.append(unit)
    return Pictures("samples", np.stack(inputs), np.array(labels), np.array(units))


def elpv(input_pixels: int, num_pictures: int | None) -> Pictures | None:
    """Read the solar cells; each picture is a unit, as the package does not tell which module a cell is from."""
    try:
        package = importlib.import_module("elpv_dataset.utils")
    except ImportError:
        print("elpv: left out; pip install elpv-dataset (87 MB, licence CC BY-NC-SA 4.0) adds it\n")
        return None
    images, probabilities, _ = package.load_dataset()
    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[:num_pictures])
    inputs = [to_model_input(np.repeat(images[i][..., np.newaxis], 3, 2), input_pixels, "stretch") for i in chosen]
    return Pictures("elpv", np.stack(inputs), (probabilities[chosen] >= 0.5).astype(int), np.arange(len(chosen)))


def stratified(pictures: Pictures) -> np.ndarray:
    """Draw pictures to calibrate on, as many of each label: all from a quarter of its units, at least from one.

    Returns:
        Indices, ascending.
    """
    draw, chosen = np.random.default_rng(0), []
    num_labels = len(np.unique(pictures.labels))
    for label in range(num_labels):
        units = draw.permutation(np.unique(pictures.units[pictures.labels == label]))
        some = np.flatnonzero(np.isin(pictures.units, units[: max(1, len(units) // 4)]))
        chosen.append(draw.permutation(some)[: NUM_TRAIN_CALIBRATION // num_labels])
    return np.sort(np.concatenate(chosen))


# Accuracy


def cross_validate(
    pictures: Pictures, vectors: dict[str, np.ndarray], num_repeats: int, never_tested: np.ndarray | None = None
) -> dict[str, Scores]:
    """Train and test heads in every fold of every repetition.

    Args:
        pictures: The set.
        vectors: Features of each variant, float32 [num, feature_length]; `float32` among them.
        num_repeats: How often the folds are drawn anew.
        never_tested: Units that are always trained on: those that a backbone was calibrated on.
    """
    num = len(pictures.labels)
    right = {name: np.zeros((3, num)) for name in vectors}
    free = np.flatnonzero(~np.isin(pictures.units, [] if never_tested is None else never_tested))
    fixed = np.setdiff1d(np.arange(num), free)
    for repeat in range(num_repeats):
        splitter = StratifiedGroupKFold(_num_folds(pictures, free), shuffle=True, random_state=repeat)
        folds = [free[test] for _, test in splitter.split(free, pictures.labels[free], pictures.units[free])]
        jobs = [(name, fold) for fold in range(len(folds)) for name in vectors]
        results = joblib.Parallel(os.cpu_count())(
            joblib.delayed(_fold)(vectors, pictures.labels, name, folds, fold, fixed) for name, fold in jobs
        )
        answers = {(kind, name): np.zeros(num, int) for kind in ("own", "crossed") for name in vectors}
        for (_, fold), result in zip(jobs, results, strict=True):
            for key, predicted in result.items():
                answers[key][folds[fold]] = predicted
        for name in vectors:
            own, crossed = answers["own", name], answers["crossed", name]
            same = own == answers["own", REFERENCE]
            right[name] += np.stack([own == pictures.labels, crossed == pictures.labels, same]) / num_repeats
    return {name: Scores(*(row[free] for row in counts)) for name, counts in right.items()}


def _num_folds(pictures: Pictures, free: np.ndarray) -> int:
    """Return five, or as many as the label with the fewest units has."""
    units = [
        len(np.unique(pictures.units[free][pictures.labels[free] == label])) for label in np.unique(pictures.labels)
    ]
    if min(units) < 3:
        raise SystemExit(
            f"{pictures.name}: a label has {min(units)} takes; at least 3 are needed to fit, choose and test"
        )
    return min(NUM_FOLDS, *units)


def _fold(
    vectors: dict[str, np.ndarray], labels: np.ndarray, name: str, folds: list[np.ndarray], fold: int, fixed: np.ndarray
) -> dict[tuple[str, str], np.ndarray]:
    """Fit heads on all folds but two, choose on the next, answer for this one; float32's answers for all variants."""
    test, validation = folds[fold], folds[(fold + 1) % len(folds)]
    fit = np.concatenate([fixed, *(f for i, f in enumerate(folds) if i not in (fold, (fold + 1) % len(folds)))])
    own = vectors[name]
    centre = own[fit].mean(0)
    with threadpool_limits(1):
        heads = [
            LogisticRegression(C=c, max_iter=300, tol=1e-3).fit(own[fit] - centre, labels[fit]) for c in REGULARIZATIONS
        ]
    head = max(heads, key=lambda head: head.score(own[validation] - centre, labels[validation]))
    answers = {("own", name): head.predict(own[test] - centre)}
    if name == REFERENCE:
        answers |= {("crossed", other): head.predict(vectors[other][test] - centre) for other in vectors}
    return answers


def difference(mine: np.ndarray, reference: np.ndarray, units: np.ndarray) -> str:
    """Return the mean difference over units in points, and its standard error."""
    of_units = pd.Series(mine - reference).groupby(units).mean().to_numpy() * 100
    return f"{of_units.mean():+.2f} ± {of_units.std(ddof=1) / np.sqrt(len(of_units)):.2f}"


# Tables


def compare(
    pictures: Pictures, models: dict[str, bytes], num_repeats: int, cache: Path, never_tested: np.ndarray | None = None
) -> pd.DataFrame:
    """Make the table of one set, a row for each model."""
    vectors = {name: features(content, pictures.inputs, cache) for name, content in models.items()}
    scores = cross_validate(pictures, vectors, num_repeats, never_tested)
    tested = ~np.isin(pictures.units, [] if never_tested is None else never_tested)
    units, reference = pictures.units[tested], vectors[REFERENCE][tested]
    rows = {}
    for name, score in scores.items():
        error = np.linalg.norm(vectors[name][tested] - reference) / np.linalg.norm(reference)
        rows[name] = {
            "error": f"{error:.3f}",
            "own": f"{100 * score.own.mean():.1f}",
            "own-f32": difference(score.own, scores[REFERENCE].own, units),
            "f32head": f"{100 * score.crossed.mean():.1f}",
            "f32head-f32": difference(score.crossed, scores[REFERENCE].own, units),
            "agree": f"{100 * score.agreement.mean():.1f}",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def costs(models: dict[str, bytes], picture: np.ndarray) -> pd.DataFrame:
    """Make the table of sizes and latencies."""
    classifiers = {name: with_head(content) for name, content in models.items()}
    latency = latencies_ms(classifiers, picture)
    rows = {name: {"MiB": f"{len(c) / 2**20:.2f}", "ms": f"{latency[name]:.1f}"} for name, c in classifiers.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def describe(pictures: Pictures, num_repeats: int) -> str:
    return (
        f"{pictures.name}: {len(pictures.labels)} pictures, {len(np.unique(pictures.units))} units, "
        f"{len(np.unique(pictures.labels))} labels, {num_repeats} repetitions"
    )


def explain(columns: Iterable[str]) -> None:
    print("\n".join(f"  {name:12s} {COLUMNS[name]}" for name in columns))


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounding", action="store_true", help="compare ways to round instead of schemes")
    parser.add_argument("--calibration", action="store_true", help="compare calibration pictures instead of schemes")
    parser.add_argument("--schemes", nargs="+", help="these alone, beside float32")
    parser.add_argument("--sets", nargs="+", default=["samples", "elpv"], choices=["samples", "elpv"])
    parser.add_argument("--pictures", type=int, help="use so many pictures of elpv, drawn at random (default: all)")
    parser.add_argument("--repeats", type=int, default=10, help="how often the folds are drawn (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "viewfinder-bench")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    folder = workspace(arguments.cache)
    backbone = (folder / layout.CONVERTED_BACKBONE).read_bytes()
    input_pixels = Model(backbone).input_pixels
    calibration = read_calibration(folder / layout.CALIBRATION, input_pixels, "stretch")
    candidates = roundings() if arguments.rounding else schemes()
    wanted = {
        name: config
        for name, config in candidates.items()
        if not arguments.schemes or config.scheme in (REFERENCE, *arguments.schemes)
    }
    sets = {"samples": lambda: samples(folder, input_pixels), "elpv": lambda: elpv(input_pixels, arguments.pictures)}
    chosen = [pictures for pictures in (sets[name]() for name in arguments.sets) if pictures is not None]
    models = {name: quantized(backbone, config, calibration, arguments.cache) for name, config in wanted.items()}
    if not arguments.calibration:
        print(costs(models, calibration[0]), end="\n\n")
    for pictures in chosen:
        used, never_tested = models, None
        if arguments.calibration:
            sample = stratified(pictures)
            never_tested = np.unique(pictures.units[sample])
            used = {REFERENCE: models[REFERENCE]}
            for name in (name for name, config in wanted.items() if config.kind == "static"):
                used[f"{name} fixed"] = models[name]
                used[f"{name} train"] = quantized(backbone, wanted[name], pictures.inputs[sample], arguments.cache)
        print(describe(pictures, arguments.repeats))
        print(compare(pictures, used, arguments.repeats, arguments.cache, never_tested), end="\n\n")
    explain(COLUMNS)


if __name__ == "__main__":
    main()
