"""Compares the quantization schemes: size, speed, and what each costs in accuracy.

    python -m bench.schemes                 every scheme in conf/quantization, on both sets of pictures
    python -m bench.schemes --rounding      nearest against calibrated rounding, and the quantizer's other algorithms
    python -m bench.schemes --calibration   data/calibration against a sample of the pictures that heads are trained on

Two sets of pictures. `samples` are the project's own frames: those of a finished `dvc repro`, else frames are made in
the cache folder. `elpv` are 2,624 electroluminescence pictures of solar cells, defective (probability of at least 0.5)
or not: a hard set of two classes, from the package elpv-dataset (CC BY-NC-SA; pip install elpv-dataset), left out if
that is not installed. Its cells come in the order of their modules and neighbours look alike, so ten neighbours of one
label make a take: 264 of them.

The head is the one that ships (pipeline/heads/training.py, settings of params.yaml) without its row for what is none of
the labels, which bench.unknown is about; it chooses its regularization inside the takes that it is trained on. Folds
come from repeated stratified cross-validation by take: all frames of a take stay together. A difference is paired: the
mean over repeats and folds of one scheme's accuracy minus another's on the same fold, and its standard error over them;
in brackets the standard error over takes, the larger of the two where few takes decide. Features are kept in the cache
folder, so that a second run takes seconds.
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
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from omegaconf import OmegaConf
from sklearn.model_selection import StratifiedGroupKFold

from bench.add_one_take import project_params
from pipeline.config.composing import composed
from pipeline.config.quantization import AS_IS, MIN_MAX, QuantizationConfig
from pipeline.config.train import TrainStage
from pipeline.files import layout, sha256_of_bytes, write_bytes
from pipeline.heads.training import train_head
from pipeline.images.calibration import read_calibration
from pipeline.images.codec import decode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.litert.head import append_head
from pipeline.litert.interpreter import Model
from pipeline.litert.model_file import check_builtin, check_scheme
from pipeline.litert.quantizer import quantize
from pipeline.takes.rows import Rows, Unit
from pipeline.takes.splits import read_takes
from pipeline.takes.tables import read_parquet

PROJECT = Path(__file__).resolve().parents[1]
CACHE = Path(tempfile.gettempdir()) / "viewfinder-bench"
REFERENCE = "float32"
NUM_FOLDS = 5
NEIGHBOURS = 10  # pictures of elpv that make a take
NUM_TRAIN_CALIBRATION = 100  # as many pictures as the fixed set has, nearly
NUM_LATENCY_ROUNDS = 100
COLUMNS = {
    "MiB": "the classifier's file: backbone and a head of two labels",
    "ms": "median latency of the classifier on this machine, one thread, the schemes taking turns",
    "error": "relative error of the features: |features - float32's| / |float32's|, over all pictures",
    "own": "accuracy in percent, head trained on this scheme's own features",
    "own-f32": "that minus the accuracy of float32, in points, with standard errors over folds (over takes)",
    "own-nearest": "that minus the accuracy of the same scheme rounded to nearest, likewise",
    "f32head": "accuracy in percent, head trained on float32 features",
    "f32head-f32": "that minus the accuracy of float32, likewise",
    "agree": "percent of test pictures that get the same label as from float32 (own heads)",
}


Predict = Callable[[np.ndarray], np.ndarray]  # feature vectors [num, feature_length] to label indices [num]


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
    """Which pictures were answered right in each repetition, bool [num_repeats, num].

    Attributes:
        own: With the head trained on own features.
        crossed: With the head trained on float32 features.
        agreement: Whether float32 gave the same answer.
    """

    own: np.ndarray
    crossed: np.ndarray
    agreement: np.ndarray


# Models


def schemes() -> dict[str, QuantizationConfig]:
    """Read conf/quantization, the reference first, without the scheme of those who bring a quantized file."""
    files = [path for path in (PROJECT / "conf" / "quantization").glob("*.yaml") if path.stem != AS_IS]
    paths = sorted(files, key=lambda path: (path.stem != REFERENCE, path))
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
            found[f"{name} nearest"] = replace(config, rounding="nearest", algorithm=MIN_MAX)
            found[f"{name} calibrated"] = replace(config, rounding="calibrated")
            for algorithm in ("MSE", "OCTAV"):
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


def workspace(cache: Path = CACHE) -> Path:
    """Return a folder with a converted backbone, frames and splits: the project's, or one where they are made."""
    made = {"backbone": layout.CONVERTED_BACKBONE, "split": layout.SPLITS, "frames": layout.FRAMES}
    if all((PROJECT / path).exists() for path in made.values()):
        return PROJECT
    params = (PROJECT / "params.yaml").read_bytes()
    folder = cache / f"project-{sha256_of_bytes(params)[:12]}"  # what was made with other settings is of no use
    write_bytes(folder / "params.yaml", params)
    for path in (layout.VIDEOS, layout.PHOTOS, layout.CALIBRATION):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if (PROJECT / path).exists() and not (folder / path).exists():
            (folder / path).symlink_to(PROJECT / path)
    for stage, output in made.items():
        if not (folder / output).exists() and (stage == "backbone" or (PROJECT / layout.VIDEOS).exists()):
            environment = os.environ | {"PYTHONPATH": str(PROJECT)}
            subprocess.run([sys.executable, "-m", f"pipeline.{stage}"], cwd=folder, env=environment, check=True)
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
    """Read the solar cells; ten neighbours of one label are a take."""
    try:
        package = importlib.import_module("elpv_dataset.utils")
    except ImportError:
        print("elpv: left out; pip install elpv-dataset (87 MB, licence CC BY-NC-SA 4.0) adds it\n")
        return None
    images, probabilities, _ = package.load_dataset()
    labels = (probabilities >= 0.5).astype(int)
    units = np.zeros(len(labels), int)
    for label in range(2):
        of_label = np.flatnonzero(labels == label)
        units[of_label] = units.max() + 1 + np.arange(len(of_label)) // NEIGHBOURS
    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[:num_pictures])
    inputs = [to_model_input(np.repeat(images[i][..., np.newaxis], 3, 2), input_pixels, "stretch") for i in chosen]
    return Pictures("elpv", np.stack(inputs), labels[chosen], units[chosen])


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
    pictures: Pictures, vectors: dict[str, np.ndarray], folds: list[list[np.ndarray]]
) -> dict[str, Scores]:
    """Train and test heads in every fold of every repetition.

    Args:
        pictures: The set.
        vectors: Features of each variant, float32 [num, feature_length]; `float32` among them.
        folds: For each repetition the pictures that each fold tests, as `draw_folds` gives them.
    """
    jobs = [(name, repeat, fold) for repeat in range(len(folds)) for fold in range(len(folds[0])) for name in vectors]
    results = [_fold(vectors, pictures, name, folds[repeat][fold]) for name, repeat, fold in jobs]
    shape = (len(folds), len(pictures.labels))
    answers = {(kind, name): np.full(shape, -1) for kind in ("own", "crossed") for name in vectors}
    for (_, repeat, fold), result in zip(jobs, results, strict=True):
        for key, predicted in result.items():
            answers[key][repeat, folds[repeat][fold]] = predicted
    return {
        name: Scores(
            answers["own", name] == pictures.labels,
            answers["crossed", name] == pictures.labels,
            answers["own", name] == answers["own", REFERENCE],
        )
        for name in vectors
    }


def draw_folds(
    pictures: Pictures, num_repeats: int, never_tested: np.ndarray | None = None
) -> tuple[list[list[np.ndarray]], np.ndarray]:
    """Draw folds by take, anew for each repetition.

    Args:
        pictures: The set.
        num_repeats: How often.
        never_tested: Units that are always trained on: those that a backbone was calibrated on.

    Returns:
        For each repetition the pictures that each fold tests, and all pictures that are tested.
    """
    free = np.flatnonzero(~np.isin(pictures.units, [] if never_tested is None else never_tested))
    num_folds = _num_folds(pictures, free)
    folds = []
    for repeat in range(num_repeats):
        splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=repeat)
        folds.append([free[test] for _, test in splitter.split(free, pictures.labels[free], pictures.units[free])])
    return folds, free


def _num_folds(pictures: Pictures, free: np.ndarray) -> int:
    """Return five, or as many as the label with the fewest units has."""
    units = [
        len(np.unique(pictures.units[free][pictures.labels[free] == label])) for label in np.unique(pictures.labels)
    ]
    if min(units) < 3:
        raise SystemExit(f"{pictures.name}: a label has {min(units)} takes; at least 3 are needed")
    return min(NUM_FOLDS, *units)


def _fold(
    vectors: dict[str, np.ndarray], pictures: Pictures, name: str, test: np.ndarray
) -> dict[tuple[str, str], np.ndarray]:
    """Fit a head on all other pictures and answer for these; float32's head answers for all variants."""
    fit = np.setdiff1d(np.arange(len(pictures.labels)), test)
    predict = fitted(vectors[name][fit], pictures.labels[fit], pictures.units[fit])
    answers = {("own", name): predict(vectors[name][test])}
    if name == REFERENCE:
        answers |= {("crossed", other): predict(vectors[other][test]) for other in vectors}
    return answers


def fitted(features: np.ndarray, labels: np.ndarray, units: np.ndarray) -> Predict:
    """Train the head that the pipeline trains."""
    names = tuple(str(label) for label in range(labels.max() + 1))
    _, unit_indices = np.unique(units, return_inverse=True)
    label_of_unit = dict(zip(unit_indices.tolist(), labels.tolist(), strict=True))
    takes = [Unit(names[label_of_unit[u]], f"{u}", "train", is_whole=True) for u in range(len(label_of_unit))]
    ids = np.array([str(number) for number in range(len(labels))], object)
    rows = Rows(features, labels, unit_indices, np.zeros(len(labels), int), ids, names, tuple(takes))
    config = composed("train", TrainStage, project_params(), ["scheme=float32"]).training
    head = train_head(rows, config, title="head").head
    return lambda vectors: (vectors @ head.weights + head.bias).argmax(1)


def difference(mine: np.ndarray, reference: np.ndarray, folds: list[list[np.ndarray]], units: np.ndarray) -> str:
    """Return the mean paired difference in points, with its standard error over folds and (over takes).

    Args:
        mine: Whether answers were right, bool [num_repeats, num].
        reference: The same of another variant.
        folds: The pictures that each fold of each repetition tests.
        units: int64 [num], which take a picture belongs to.
    """
    gains = 100 * (mine.astype(float) - reference)
    tested = np.concatenate(folds[0])
    of_folds = np.array([gains[repeat, test].mean() for repeat, tests in enumerate(folds) for test in tests])
    of_units = pd.Series(gains[:, tested].mean(0)).groupby(units[tested]).mean().to_numpy()
    errors = [values.std(ddof=1) / np.sqrt(len(values)) for values in (of_folds, of_units)]
    return f"{of_folds.mean():+.2f} ± {errors[0]:.2f} ({errors[1]:.2f})"


# Tables


def compare(
    pictures: Pictures,
    models: dict[str, bytes],
    arguments: argparse.Namespace,
    never_tested: np.ndarray | None = None,
) -> pd.DataFrame:
    """Make the table of one set, a row for each model."""
    vectors = {name: features(content, pictures.inputs, arguments.cache) for name, content in models.items()}
    folds, tested = draw_folds(pictures, arguments.repeats, never_tested)
    scores = cross_validate(pictures, vectors, folds)
    reference = vectors[REFERENCE][tested]

    def minus(right: np.ndarray, name: str) -> str:
        return difference(right, scores[name].own, folds, pictures.units) if name in scores else ""

    rows = {}
    for name, score in scores.items():
        error = np.linalg.norm(vectors[name][tested] - reference) / np.linalg.norm(reference)
        rows[name] = {
            "error": f"{error:.3f}",
            "own": f"{100 * score.own[:, tested].mean():.1f}",
            "own-f32": minus(score.own, REFERENCE),
            "own-nearest": minus(score.own, f"{name.split()[0]} nearest"),
            "f32head": f"{100 * score.crossed[:, tested].mean():.1f}",
            "f32head-f32": minus(score.crossed, REFERENCE),
            "agree": f"{100 * score.agreement[:, tested].mean():.1f}",
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table if arguments.rounding else table.drop(columns="own-nearest")


def costs(models: dict[str, bytes], picture: np.ndarray) -> pd.DataFrame:
    """Make the table of sizes and latencies."""
    classifiers = {name: with_head(content) for name, content in models.items()}
    latency = latencies_ms(classifiers, picture)
    rows = {name: {"MiB": f"{len(c) / 2**20:.2f}", "ms": f"{latency[name]:.1f}"} for name, c in classifiers.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def describe(pictures: Pictures, num_repeats: int) -> str:
    return (
        f"{pictures.name}: {len(pictures.labels)} pictures, {len(np.unique(pictures.units))} takes, "
        f"{len(np.unique(pictures.labels))} labels, folds by take drawn {num_repeats} times"
    )


def explain(columns: Iterable[str]) -> None:
    print("\n".join(f"  {name:12s} {COLUMNS[name]}" for name in columns))


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.schemes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounding", action="store_true", help="compare ways to round instead of schemes")
    parser.add_argument("--calibration", action="store_true", help="compare calibration pictures instead of schemes")
    parser.add_argument("--schemes", nargs="+", help="these alone, beside float32")
    parser.add_argument("--sets", nargs="+", default=["samples", "elpv"], choices=["samples", "elpv"])
    parser.add_argument("--pictures", type=int, help="use so many pictures of elpv, drawn at random (default: all)")
    parser.add_argument("--variants", nargs="+", help="rows whose names end so (nearest, calibrated), beside float32")
    parser.add_argument("--repeats", type=int, default=10, help="how often the folds are drawn (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="default: %(default)s")
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
        if not arguments.variants or name.endswith((REFERENCE, *arguments.variants))
    }
    sets = {"samples": lambda: samples(folder, input_pixels), "elpv": lambda: elpv(input_pixels, arguments.pictures)}
    chosen = [pictures for pictures in (sets[name]() for name in arguments.sets) if pictures is not None]
    models = {name: quantized(backbone, config, calibration, arguments.cache) for name, config in wanted.items()}
    if not arguments.calibration:
        print(costs(models, calibration[0]).to_string(), end="\n\n")
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
        print(compare(pictures, used, arguments, never_tested).to_string(), end="\n\n")
    explain(COLUMNS)


if __name__ == "__main__":
    main()
