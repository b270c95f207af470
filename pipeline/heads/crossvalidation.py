"""Cross-validates heads by take: every take is scored by a head that has never seen it."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import softmax

from pipeline.config.train import TrainingConfig
from pipeline.heads.head_file import Head
from pipeline.heads.training import fit_head, train_head
from pipeline.metrics.classification import Predictions
from pipeline.metrics.intervals import intervals_of
from pipeline.processes.progress import counted
from pipeline.takes.assignment import place_of
from pipeline.takes.folds import deal
from pipeline.takes.rows import Rows

LEARNING_COLUMNS = ("percent", "num_takes", "label", "recall", "low", "high")


def cross_validate(
    rows: Rows, config: TrainingConfig, *, num_folds: int, percents: Sequence[int], title: str
) -> tuple[Predictions, pd.DataFrame]:
    """Hold each unit out once, train on the others as `train_head` does, and score it.

    Each fold chooses its own settings from its own training takes, so no take has a say in how it is scored.

    Args:
        rows: All frames and copies.
        config: Settings.
        num_folds: How many folds, at most.
        percents: Shares of the training takes for the learning curve, beside all of them; heads that are trained in
            steps are trained on all alone.
        title: For the progress bar.

    Returns:
        What the heads say about frames that they have not seen, in the order of the rows; and the learning curve, a row
        for each share and label, and with an empty label the accuracy over all: `LEARNING_COLUMNS`.
    """
    folds = deal(rows.units, np.unique(rows.unit_indices).tolist(), num_folds)
    found: dict[int, list[Predictions]] = {percent: [] for percent in (*percents, 100)}
    tested = []
    num_takes = dict.fromkeys(found, 0.0)
    for fold in counted(folds, title, total=len(folds), unit="fold"):
        is_held_out = rows.of_units(fold)
        tested.append(np.flatnonzero(is_held_out & rows.are_frames))
        test = rows.only(is_held_out & rows.are_frames)
        train = rows.only(~is_held_out)
        trained = train_head(train, config, title=f"{title}, head")
        for percent, parts in found.items():
            chosen = _some_units(train, percent)
            num_takes[percent] += len(chosen) / len(folds)
            if percent == 100:
                parts.append(predictions_of(trained.head, test))
            elif trained.strength is not None:
                some = train.only(train.of_units(chosen))
                head = fit_head(some, trained.strength, class_balance=config.class_balance)
                parts.append(predictions_of(head, test))
    in_order = np.argsort(np.concatenate(tested))
    merged = {percent: _merged(parts).only(in_order) for percent, parts in found.items() if parts}
    steps = {round(num_takes[percent], 6): percent for percent in reversed(merged)}  # of equal ones the smallest share
    steps[round(num_takes[100], 6)] = 100
    learning = [
        row for percent in sorted(steps.values()) for row in _learning(percent, num_takes[percent], merged[percent])
    ]
    return merged[100], pd.DataFrame(learning, columns=list(LEARNING_COLUMNS))


def predictions_of(head: Head, rows: Rows) -> Predictions:
    """Return what a head says about rows, in the arithmetic of the shipped graph: float32."""
    logits = rows.features @ head.weights + head.bias
    probabilities: npt.NDArray[np.float32] = softmax(logits, axis=1)
    return Predictions(
        labels=rows.labels,
        takes=tuple(rows.units[index].take for index in rows.unit_indices),
        frame_ids=tuple(rows.frame_ids),
        actual=rows.label_indices,
        probabilities=probabilities,
    )


def _some_units(rows: Rows, percent: int) -> list[int]:
    """Return a share of the units of each label, at least one of each, those with the lowest places."""
    of_label: dict[str, list[int]] = {}
    for index in np.unique(rows.unit_indices).tolist():
        of_label.setdefault(rows.units[index].label, []).append(index)
    chosen = []
    for group in of_label.values():
        ordered = sorted(group, key=lambda index: place_of(f"learning/{rows.units[index]}"))
        chosen += ordered[: max(1, math.floor(percent * len(group) / 100 + 0.5))]
    return sorted(chosen)


def _learning(percent: int, num_takes: float, predictions: Predictions) -> list[tuple[object, ...]]:
    intervals = intervals_of(predictions)
    if intervals is None:
        return []
    is_right = predictions.actual == predictions.predicted
    rows: list[tuple[object, ...]] = [
        (percent, num_takes, "", float(is_right.mean()), *_ends(intervals.accuracy)),
    ]
    for index, label in enumerate(predictions.labels):
        of_label = predictions.actual == index
        if of_label.any():
            recall = float(is_right[of_label].mean())
            rows.append((percent, num_takes, label, recall, *_ends(intervals.recall[label])))
    return rows


def _ends(interval: dict[str, float]) -> tuple[float, float]:
    return interval["low"], interval["high"]


def _merged(parts: Sequence[Predictions]) -> Predictions:
    first = parts[0]
    return Predictions(
        labels=first.labels,
        takes=tuple(take for part in parts for take in part.takes),
        frame_ids=tuple(frame_id for part in parts for frame_id in part.frame_ids),
        actual=np.concatenate([part.actual for part in parts]),
        probabilities=np.concatenate([part.probabilities for part in parts]),
    )
