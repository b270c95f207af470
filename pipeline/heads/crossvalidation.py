"""Cross-validates heads by take: every take is scored by a head that has never seen it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline.config.train import TrainingConfig
from pipeline.config.unknown import KEEP_PERCENT
from pipeline.heads.choosing import DEFAULT_STRENGTH
from pipeline.heads.head_file import Head
from pipeline.heads.training import fit_head, train_head
from pipeline.heads.unknown import ask_without_a_label
from pipeline.metrics.classification import Predictions
from pipeline.metrics.intervals import intervals_of
from pipeline.metrics.unknown import LABEL, NONE_TAKE, STRANGER, asked_table
from pipeline.processes.progress import counted
from pipeline.takes.assignment import place_of
from pipeline.takes.folds import deal
from pipeline.takes.rows import Rows

LEARNING_COLUMNS = ("percent", "num_takes", "label", "recall", "low", "high")


class CrossValidated(NamedTuple):
    """What cross-validation gives.

    Attributes:
        predictions: What the heads say about frames of the labels that they have not seen, in the order of the rows.
        learning: A row for each share of the takes and label, and with an empty label the accuracy over all:
            `LEARNING_COLUMNS`.
        asked: What they say about what is none of the labels, and beside it about the labels' frames (see
            `metrics.unknown.asked_table`); empty if they know nothing but labels.
    """

    predictions: Predictions
    learning: pd.DataFrame
    asked: pd.DataFrame


def cross_validate(
    rows: Rows,
    config: TrainingConfig,
    *,
    num_folds: int,
    percents: Sequence[int],
    title: str,
    keep_percent: float = KEEP_PERCENT,
    says_yes_or_no: bool = False,
) -> CrossValidated:
    """Hold each unit out once, train on the others as `train_head` does, and score it.

    Each fold chooses its own settings from its own training takes, so no take has a say in how it is scored.

    Args:
        rows: All frames and copies.
        config: Settings.
        num_folds: How many folds, at most.
        percents: Shares of the training takes for the learning curve, beside all of them; heads that are trained in
            steps are trained on all alone.
        title: For the progress bar.
        keep_percent: Of the labels' frames, at the threshold.
        says_yes_or_no: See `train_head`.
    """
    folds = deal(rows.units, np.unique(rows.unit_indices).tolist(), num_folds)
    found: dict[int, list[Predictions]] = {percent: [] for percent in (*percents, 100)}
    tested, asked, strengths = [], list[pd.DataFrame](), list[float]()
    num_takes = dict.fromkeys(found, 0.0)
    for fold in counted(folds, title, total=len(folds), unit="fold"):
        is_held_out = rows.of_units(fold)
        is_asked = is_held_out & rows.are_frames
        tested.append(np.flatnonzero(is_asked & rows.are_of_labels))
        test, train = rows.only(is_asked & rows.are_of_labels), rows.only(~is_held_out)
        trained = train_head(
            train, config, title=f"{title}, head", keep_percent=keep_percent, says_yes_or_no=says_yes_or_no
        )
        strengths.append(trained.strength or DEFAULT_STRENGTH)
        if rows.have_others:
            asked.append(_asked(trained.head, rows.only(is_asked)))
        for percent, parts in found.items():
            chosen = _some_units(train, percent)
            num_takes[percent] += sum(rows.units[index].label in rows.labels for index in chosen) / len(folds)
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
    if rows.have_others:
        asked.append(
            ask_without_a_label(
                rows, folds, strengths, class_balance=config.class_balance, keep_percent=keep_percent, title=title
            )
        )
    return CrossValidated(
        merged[100],
        pd.DataFrame(learning, columns=list(LEARNING_COLUMNS)),
        pd.concat(asked, ignore_index=True) if asked else asked_table(),
    )


def predictions_of(head: Head, rows: Rows) -> Predictions:
    """Return what a head says about rows that show a label, in the arithmetic of the shipped graph: float32."""
    return Predictions(
        labels=rows.labels,
        takes=tuple(rows.units[index].take for index in rows.unit_indices),
        frame_ids=tuple(rows.frame_ids),
        actual=rows.label_indices,
        probabilities=head.probabilities(rows.features),
    )


def _asked(head: Head, rows: Rows) -> pd.DataFrame:
    """Return what a head says about rows of any kind."""
    units = [rows.units[index] for index in rows.unit_indices]
    kinds = [STRANGER if unit.is_stranger else LABEL if unit.label in rows.labels else NONE_TAKE for unit in units]
    return asked_table(
        kind=kinds,
        take=[unit.take for unit in units],
        probability=head.probabilities(rows.features).max(1),
        threshold=head.threshold,
    )


def _some_units(rows: Rows, percent: int) -> list[int]:
    """Return a share of the units of each label, at least one of each, those with the lowest places.

    What is none of the labels is there as a whole: it does not grow with what is filmed.
    """
    of_label: dict[str, list[int]] = {}
    for index in np.unique(rows.unit_indices).tolist():
        of_label.setdefault(rows.units[index].label, []).append(index)
    chosen = []
    for label, group in of_label.items():
        if label not in rows.labels:
            chosen += group
            continue
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
