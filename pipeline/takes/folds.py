"""Deals takes out to folds, so that each is held out once and every label has others to train on."""

from collections.abc import Sequence

from pipeline.takes.assignment import place_of
from pipeline.takes.rows import Unit

NUM_FOLDS = 5


def deal(units: Sequence[Unit], present: Sequence[int], num_folds: int = NUM_FOLDS) -> list[list[int]]:
    """Deal units out to folds.

    The units of a label go round the folds in the order of a hash of their names, each label beginning where the one
    before ended, so that folds are equally large. A label with fewer units than folds is missing in some. One with a
    single unit has none to train on beside it and is never held out.

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
    dealt = {label: _in_order(units, group) for label, group in found.items() if len(group) > 1}
    num_used = min(num_folds, max(map(len, dealt.values()), default=0))
    folds: list[list[int]] = [[] for _ in range(num_used)]
    for number, index in enumerate(index for label in sorted(dealt) for index in dealt[label]):
        folds[number % num_used].append(index)
    return [fold for fold in folds if fold]


def _in_order(units: Sequence[Unit], group: Sequence[int]) -> list[int]:
    """Return those of a label's units that may be held out, in the order of their places."""
    free = [index for index in group if units[index].may_be_held_out]
    return sorted(free, key=lambda index: (place_of(f"{units[index].take}/{units[index].part}"), units[index].take))
