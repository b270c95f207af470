"""Finds the pictures of other things that look like a label: a project may be about the very thing that one shows."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.takes.rows import Rows

# A stranger as near to a label as nine tenths of the label's own frames are to its other takes may show it. By that
# 1 to 3 of 175 are left out of the sets of bench.unknown, and most of a take that is put among them.
_PERCENT = 10
_MAX_FRAMES = 500  # of a label, to tell how near its takes are to each other


@dataclass(frozen=True)
class Lookalike:
    """A picture of other things that may show a label after all.

    Attributes:
        take: Its path.
        label: What it looks like.
        similarity: Cosine between its features and those of the label's frame that is nearest, -1..1.
        expected: What the label's own takes have between each other: the similarity that it reaches.
    """

    take: str
    label: str
    similarity: float
    expected: float


def without_lookalikes(rows: Rows) -> tuple[Rows, list[Lookalike]]:
    """Leave the pictures out that look like a label, and tell which. What the user calls `NONE` stays.

    Args:
        rows: Those of labels, and of what is none of them.

    Returns:
        The rows that are left, without the units of those that are not; and what was left out, by path.
    """
    strangers = [index for index, unit in enumerate(rows.units) if unit.is_stranger]
    if not strangers:
        return rows, []
    found = _lookalikes(rows, strangers)
    names = {one.take for one in found}
    left = [index for index, unit in enumerate(rows.units) if not (unit.is_stranger and unit.take in names)]
    kept = rows.only(rows.of_units(left))
    units = tuple(rows.units[index] for index in left)
    return replace(kept, unit_indices=np.searchsorted(left, kept.unit_indices), units=units), found


def _lookalikes(rows: Rows, strangers: list[int]) -> list[Lookalike]:
    pictures = rows.only(rows.of_units(strangers) & rows.are_frames)
    directions = _directions(pictures.features)
    takes = [rows.units[index].take for index in pictures.unit_indices]
    found: dict[str, Lookalike] = {}
    for index, label in enumerate(rows.labels):
        frames = rows.only((rows.label_indices == index) & rows.are_frames)
        expected = _nearness(frames)
        if expected is None:
            continue
        similarities = (directions @ _directions(frames.features).T).max(1)
        for place in np.flatnonzero(similarities >= expected):
            one = Lookalike(takes[place], label, float(similarities[place]), expected)
            if one.take not in found or found[one.take].similarity < one.similarity:
                found[one.take] = one
    return [found[take] for take in sorted(found)]


def _nearness(frames: Rows) -> float | None:
    """Return the similarity that most frames of a label have with one of another take; None if there is one take."""
    if len(np.unique(frames.unit_indices)) < 2:
        return None
    few = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _MAX_FRAMES)).round().astype(int))
    directions = _directions(frames.features)
    similarities = directions[few] @ directions.T
    similarities[frames.unit_indices[few][:, np.newaxis] == frames.unit_indices] = -1
    return float(np.percentile(similarities.max(1), _PERCENT))


def _directions(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    directions: npt.NDArray[np.float32] = features / np.maximum(lengths, np.finfo(np.float32).tiny)
    return directions
