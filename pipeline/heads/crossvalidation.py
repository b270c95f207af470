"""Cross-validates heads by take: every take is scored by a head that has never seen it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline.config.train import TrainingConfig
from pipeline.config.unknown import KEEP_PERCENT
from pipeline.heads.fold_heads import ALL, FoldSettings, FoldTraining
from pipeline.heads.head_file import Head
from pipeline.heads.unknown import ask_without_a_label
from pipeline.metrics.classification import Predictions
from pipeline.metrics.intervals import intervals_of
from pipeline.metrics.unknown import LABEL, NONE_TAKE, STRANGER, asked_table
from pipeline.takes.engines import Engine, LocalEngine
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
    engine: Engine | None = None,
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
        engine: Trains the heads of a fold; None does it here, one fold after the other, as one uses all processors.

    Raises:
        PipelineError: If a fold cannot be computed, which happens on other machines alone.
    """
    folds = deal(rows.units, np.unique(rows.unit_indices).tolist(), num_folds)
    settings = FoldSettings(config, tuple(percents), keep_percent, says_yes_or_no, title)
    found: dict[int, list[Predictions]] = {percent: [] for percent in (*percents, ALL)}
    tested, asked, without = [], list[pd.DataFrame](), list[pd.DataFrame]()
    num_takes = dict.fromkeys(found, 0.0)
    for fold, heads in zip(folds, FoldTraining(rows, folds, settings).run(engine or LocalEngine(1)), strict=True):
        is_asked = rows.of_units(fold) & rows.are_frames
        tested.append(np.flatnonzero(is_asked & rows.are_of_labels))
        test = rows.only(is_asked & rows.are_of_labels)
        if rows.have_others:
            asked.append(_asked(heads.of_percent[ALL], rows.only(is_asked)))
            without += ask_without_a_label(rows, fold, heads.without_label, keep_percent=keep_percent)
        for percent, head in heads.of_percent.items():
            found[percent].append(predictions_of(head, test))
        for percent, number in heads.num_takes.items():
            num_takes[percent] += number / len(folds)
    in_order = np.argsort(np.concatenate(tested))
    merged = {percent: _merged(parts).only(in_order) for percent, parts in found.items() if parts}
    steps = {round(num_takes[percent], 6): percent for percent in reversed(merged)}  # of equal ones the smallest share
    steps[round(num_takes[ALL], 6)] = ALL
    learning = [
        row for percent in sorted(steps.values()) for row in _learning(percent, num_takes[percent], merged[percent])
    ]
    return CrossValidated(
        merged[ALL],
        pd.DataFrame(learning, columns=list(LEARNING_COLUMNS)),
        pd.concat([*asked, *without], ignore_index=True) if asked else asked_table(),
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
