"""Deals takes out to folds, so that each is held out once and every label has others to train on."""

from collections.abc import Sequence

from pipeline.takes.assignment import place_of, recordings_of
from pipeline.takes.rows import Unit
from pipeline.takes.splits import NONE

NUM_FOLDS = 5


def deal(units: Sequence[Unit], present: Sequence[int], num_folds: int = NUM_FOLDS) -> list[list[int]]:
    """Deal units out to folds.

    The units of a label go round the folds in the order of a hash of their names, each label beginning where the one
    before ended, so that folds are equally large. A label with fewer units than folds is missing in some. One with a
    single unit has none to train on beside it and is never held out. What is none of the labels comes last, so that it
    changes nothing for them.

    Args:
        units: All units.
        present: Indices of those that have frames.
        num_folds: How many folds, at most; fewer if no label has so many units.

    Returns:
        For each fold the indices of its units; none is empty, and there are none at all if nothing can be held out.
    """
    found: dict[str, list[int]] = {}
    for index in present:
        found.setdefault(units[index].label, []).append(index)
    together = {label: _together(units, group) for label, group in found.items()}
    dealt = {label: _in_order(units, groups) for label, groups in together.items() if len(groups) > 1}
    num_used = min(num_folds, max((len(groups) for label, groups in dealt.items() if label != NONE), default=0))
    if not num_used:
        return []
    folds: list[list[int]] = [[] for _ in range(num_used)]
    in_turn = sorted(dealt, key=lambda label: (label == NONE, label))
    for number, group in enumerate(group for label in in_turn for group in dealt[label]):
        folds[number % num_used] += group
    return [fold for fold in folds if fold]


def _together(units: Sequence[Unit], indices: Sequence[int]) -> list[list[int]]:
    """Gather the units of a label that are one recording: a live photo and its video."""
    recordings = recordings_of(units[index].take for index in indices)
    groups: dict[tuple[str, str], list[int]] = {}
    for index in indices:
        unit = units[index]
        groups.setdefault((recordings[unit.take], "" if unit.is_whole else unit.part), []).append(index)
    return list(groups.values())


def _in_order(units: Sequence[Unit], groups: Sequence[list[int]]) -> list[list[int]]:
    """Return those of a label's groups that may be held out, in the order of their places."""

    def place(group: list[int]) -> tuple[float, str]:
        names = sorted(f"{units[index].take}/{units[index].part}" for index in group)
        return place_of(names[-1]), names[-1]

    return sorted((group for group in groups if units[group[0]].may_be_held_out), key=place)
