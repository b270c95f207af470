"""Turns the bottlenecks of takes into what a further head learns: the same rows under other labels."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pipeline.errors import InputError
from pipeline.files.layout import LABELS
from pipeline.takes.answers import Answers
from pipeline.takes.lookalikes import without_lookalikes
from pipeline.takes.rows import Rows, refuse_absent_labels
from pipeline.takes.splits import NONE

YES, _NO = "yes", "no"  # of a label that may be true beside others; in a head's outputs `no` comes first


def relabelled(rows: Rows, answers: Answers) -> Rows:
    """Return rows under the labels of a head of which one is true.

    A take that none of the labels is true of is none of them, as are the pictures of other things and takes in `_none`
    that were not asked. All else that was not asked is left out.

    Args:
        rows: Under the labels of the first head.
        answers: One label a take, or none.

    Raises:
        InputError: If a label has no frame to train on.
    """

    def label_of(take: str, label: str) -> str | None:
        if take in answers:
            return answers[take][0] if answers[take] else NONE
        return NONE if label == NONE else None

    found = _under(rows, label_of)
    refuse_absent_labels(found)
    return found


def yes_or_no(rows: Rows, answers: Answers, wanted: str) -> Rows:
    """Return rows under the labels `no` and `yes`: whether one of the labels that may be true together is.

    The pictures of other things are a `no`, but for those that look like what the takes show.

    Args:
        rows: Under the labels of the first head.
        answers: The labels of each take.
        wanted: The label that is asked for.

    Raises:
        InputError: If either has no frame to train on.
    """

    def label_of(take: str, label: str) -> str | None:
        if take in answers:
            return YES if wanted in answers[take] else _NO
        return NONE if label == NONE else None

    with_others, _ = without_lookalikes(_under(rows, label_of))
    found = _under(with_others, lambda _, label: _NO if label == NONE else label)
    lacking = [label for label in (_NO, YES) if not _are_trained_on(found, label)]
    if lacking:
        raise InputError(
            found=f"label '{wanted}' without a frame to train on that is a {lacking[0]}",
            expected="takes to train on that it is true of, and others that it is not",
            remedy=f"name some in {LABELS}",
        )
    return found


def _are_trained_on(rows: Rows, label: str) -> bool:
    """Tell whether a label has frames to train on."""
    if label not in rows.labels:
        return False
    return bool((rows.are_for_training & (rows.label_indices == rows.labels.index(label))).any())


def _under(rows: Rows, label_of: Callable[[str, str], str | None]) -> Rows:
    """Return the rows of units that get a label, under it; units are numbered anew."""
    named = [label_of(unit.take, unit.label) for unit in rows.units]
    left = [index for index, label in enumerate(named) if label is not None]
    units = tuple(replace(rows.units[index], label=label) for index, label in enumerate(named) if label is not None)
    labels = tuple(sorted({unit.label for unit in units} - {NONE}))
    number_of = {label: number for number, label in enumerate([*labels, NONE])}
    kept = rows.only(rows.of_units(left))
    unit_indices = np.searchsorted(left, kept.unit_indices)
    return replace(
        kept,
        labels=labels,
        units=units,
        unit_indices=unit_indices,
        label_indices=np.array([number_of[unit.label] for unit in units], np.int64)[unit_indices],
    )
