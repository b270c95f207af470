"""Compares ways to tell what a classifier does not know from what it knows.

    python -m bench.unknown                        all sets, float32 features
    python -m bench.unknown --scheme int8          on the features of another scheme

The sets are those of bench.heads. Other things are the pictures of data/strangers; a set's own things are its frames.
Both are dealt out to folds (frames by take), so whatever a score has learned, it has learned from other takes and from
other strangers than it is asked about. Then each label is held out in turn: it must be unknown to a head that has never
seen it. A score is better the more often it is higher for what is known than for what is not (AUROC).
"""

import argparse
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from scipy.special import logsumexp, softmax
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from bench.heads import prepared, rows_of, training
from bench.schemes import NUM_FOLDS, PROJECT, features
from pipeline.heads.choosing import DEFAULT_STRENGTH, DEFAULT_THRESHOLD
from pipeline.heads.head_file import Head
from pipeline.heads.training import fit_head, train_head
from pipeline.heads.unknown import without_label
from pipeline.images.codec import decode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.metrics.intervals import standard_error
from pipeline.takes.rows import Rows, Unit
from pipeline.takes.splits import NONE, TRAIN

STRANGERS = PROJECT / "data" / "strangers"
KEEP_PERCENT = 95
NUM_NEIGHBOURS = 5
LEARNED = "learned row"
COLUMNS = {
    "strangers": "AUROC between frames of takes, and strangers, that were not learned from",
    "refused": f"percent of these strangers, where {KEEP_PERCENT}% of the frames are kept",
    "held out": "AUROC between frames of the other labels and of one that was never seen, mean over labels",
    "accuracy": "percent of frames whose most probable label is right, nothing refused",
    "±": "standard error: of the accuracy over takes, of all else over folds",
}

Scores = Callable[[np.ndarray], np.ndarray]  # features [num, feature_length] to scores [num], high for what is known


def closed_scores(rows: Rows, head: Head) -> dict[str, Scores]:
    """Return the scores that need no picture of anything else.

    Args:
        rows: That the head was trained on.
        head: Of the labels alone.
    """
    unit_length = rows.features / np.linalg.norm(rows.features, axis=1, keepdims=True)
    present = np.unique(rows.label_indices)
    means = np.stack([rows.features[rows.label_indices == index].mean(0) for index in present])
    means /= np.linalg.norm(means, axis=1, keepdims=True)

    def similarities(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
        found: np.ndarray = vectors @ others.T / np.linalg.norm(vectors, axis=1, keepdims=True)
        return found

    return {
        "max softmax": lambda vectors: softmax(_logits(head, vectors), axis=1).max(1),
        "energy": lambda vectors: logsumexp(_logits(head, vectors), axis=1),
        "class means": lambda vectors: similarities(vectors, means).max(1),
        f"{NUM_NEIGHBOURS} neighbours": lambda vectors: np.sort(similarities(vectors, unit_length), axis=1)[
            :, -NUM_NEIGHBOURS:
        ].mean(1),
    }


def learned_score(head: Head) -> Scores:
    """Return the highest probability of a label, of a head whose last row is for everything else."""
    return lambda vectors: head.probabilities(vectors).max(1)


def with_strangers(rows: Rows, strangers: np.ndarray) -> Rows:
    """Return rows with strangers behind them, as `learned_rows` does, each a unit of its own."""
    num_units, num_labels = len(rows.units), len(rows.labels)
    units = [Unit(NONE, f"{STRANGERS}/{number}", TRAIN, is_whole=True) for number in range(len(strangers))]
    return Rows(
        np.concatenate([rows.features, strangers]),
        np.concatenate([rows.label_indices, np.full(len(strangers), num_labels)]),
        np.concatenate([rows.unit_indices, num_units + np.arange(len(strangers))]),
        np.concatenate([rows.copies, np.zeros(len(strangers), np.int64)]),
        np.concatenate([rows.frame_ids, np.array([unit.take for unit in units], object)]),
        rows.labels,
        (*rows.units, *units),
    )


def score(frames: Rows, strangers: np.ndarray, num_repeats: int) -> dict[str, dict[str, str]]:
    """Cross-validate all scores and return a row of the table for each."""
    of_folds: dict[str, dict[str, list[float]]] = {}
    is_right: dict[str, np.ndarray] = {name: np.zeros((num_repeats, len(frames))) for name in ("closed", LEARNED)}
    for repeat in range(num_repeats):
        splitter = StratifiedGroupKFold(NUM_FOLDS, shuffle=True, random_state=repeat)
        dealt = KFold(NUM_FOLDS, shuffle=True, random_state=repeat).split(strangers)
        folds = splitter.split(frames.features, frames.label_indices, frames.unit_indices)
        for (_, test), (known_strangers, new_strangers) in zip(folds, dealt, strict=True):
            is_test = np.zeros(len(frames), bool)
            is_test[test] = True
            train, asked = frames.only(~is_test), frames.only(is_test)
            closed, learned = _heads(train, strangers[known_strangers])
            for name, head in (("closed", closed), (LEARNED, learned)):
                logits = _logits(head, asked.features)[:, : len(frames.labels)]
                is_right[name][repeat, is_test] = logits.argmax(1) == asked.label_indices
            for name, one in (closed_scores(train, closed) | {LEARNED: learned_score(learned)}).items():
                known, unknown = one(asked.features), one(strangers[new_strangers])
                found = of_folds.setdefault(name, {})
                found.setdefault("strangers", []).append(_auroc(known, unknown))
                threshold = np.percentile(known, 100 - KEEP_PERCENT)
                found.setdefault("refused", []).append(100 * float((unknown < threshold).mean()))
            if len(frames.labels) > 2:
                for name, value in _held_out(train, asked, strangers[known_strangers]).items():
                    of_folds[name].setdefault("held out", []).append(value)
    takes = [frames.units[index].take for index in frames.unit_indices]
    accuracies = {name: _accuracy(right.mean(0), takes) for name, right in is_right.items()}
    return {
        name: {
            column: f"{np.mean(values):.{1 if column == 'refused' else 3}f} ± "
            f"{np.std(values, ddof=1) / np.sqrt(NUM_FOLDS):.{1 if column == 'refused' else 3}f}"
            for column, values in found.items()
        }
        | {"accuracy": accuracies[LEARNED if name == LEARNED else "closed"]}
        for name, found in of_folds.items()
    }


def _heads(train: Rows, strangers: np.ndarray) -> tuple[Head, Head]:
    """Return the head that ships and the same with one more row, each as strongly regularized as it chooses."""
    closed = train_head(train, training(), title="closed").head
    return closed, train_head(with_strangers(train, strangers), training(), title="learned").head


def _held_out(train: Rows, asked: Rows, strangers: np.ndarray) -> Mapping[str, float]:
    """Return the AUROC of each score, a mean over labels that are held out, each by heads that never saw it."""
    values: dict[str, list[float]] = {}
    for label in range(len(train.labels)):
        others = without_label(train, label)
        closed = fit_head(others, DEFAULT_STRENGTH, class_balance=False)
        others_and_more = with_strangers(others, strangers)
        learned = fit_head(others_and_more, DEFAULT_STRENGTH, class_balance=False, threshold=DEFAULT_THRESHOLD)
        known = asked.features[asked.label_indices != label]
        unknown = asked.features[asked.label_indices == label]
        for name, one in (closed_scores(others, closed) | {LEARNED: learned_score(learned)}).items():
            if len(known) and len(unknown):
                values.setdefault(name, []).append(_auroc(one(known), one(unknown)))
    return {name: float(np.mean(of_labels)) for name, of_labels in values.items()}


def _logits(head: Head, vectors: np.ndarray) -> np.ndarray:
    found: np.ndarray = vectors @ head.weights + head.bias
    return found


def _auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    is_known = np.concatenate([np.ones(len(known)), np.zeros(len(unknown))])
    return float(roc_auc_score(is_known, np.concatenate([known, unknown])))


def _accuracy(is_right: np.ndarray, takes: list[str]) -> str:
    return f"{100 * is_right.mean():.1f} ± {100 * standard_error(is_right, takes):.1f}"


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.unknown", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    bench = prepared(parser)
    arguments = bench.arguments
    pictures = [decode_jpeg(path.read_bytes()) for path in sorted(STRANGERS.iterdir())]
    inputs = [to_model_input(picture, bench.input_pixels, "stretch") for picture in pictures]
    strangers = features(bench.backbone, np.stack(inputs), arguments.cache)
    for one in bench.sets:
        rows = rows_of([features(bench.backbone, one.inputs, arguments.cache)], one)
        print(
            f"{one.name}, {arguments.scheme}: {len(one.labels)} pictures of {len(rows.labels)} labels, "
            f"{len(strangers)} strangers, folds drawn {arguments.repeats} times",
            flush=True,
        )
        with threadpool_limits(1):
            table = score(rows, strangers, arguments.repeats)
        print(pd.DataFrame.from_dict(table, orient="index").to_string(na_rep="-"), end="\n\n", flush=True)
    print("\n".join(f"  {name:12s} {text}" for name, text in COLUMNS.items()))


if __name__ == "__main__":
    main()
