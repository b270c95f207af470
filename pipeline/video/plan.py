"""Decides which packets of a clip have to be decoded to get the wanted frames."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class PacketNote:
    """What the index pass keeps of a packet, which holds one picture.

    Attributes:
        pts: Presentation time in units of the stream.
        duration: In the same units; 0 if unknown.
        is_shown: Whether its picture is presented; an edit list may cut it away though others need it.
        is_key: Whether pictures presented from here on need nothing that was decoded before; earlier ones may follow.
    """

    pts: int
    duration: int
    is_shown: bool
    is_key: bool


@dataclass(frozen=True)
class Run:
    """Packets to decode in a row, from a key frame on.

    Attributes:
        first: Number of the key frame's packet, counted over the stream's packets.
        last: Number of the last packet.
        wanted_pts: Presentation times of the frames to keep, ascending.
    """

    first: int
    last: int
    wanted_pts: tuple[int, ...]


def plan_runs(
    notes: Sequence[PacketNote], *, per_second: Fraction, time_base: Fraction, reorder_depth: int
) -> tuple[Run, ...] | None:
    """Return what to decode to get the first frame presented in each slot, each from the last key frame it allows.

    Args:
        notes: All packets, in decoding order.
        per_second: Slots in a second, counted from the first frame.
        time_base: The unit of `pts` in seconds.
        reorder_depth: How many frames the decoder expects to hold back. A decoder that learns of a greater depth on
            the way drops frames, and which ones depends on where it started.

    Returns:
        Runs in the order of the clip, or None if frames and packets do not correspond one to one.
    """
    if not _is_plain(notes, reorder_depth):
        return None
    number_of = {note.pts: number for number, note in enumerate(notes)}
    keys = [number for number, note in enumerate(notes) if note.is_key]
    shown = sorted(note.pts for note in notes if note.is_shown)
    runs: list[Run] = []
    for pts in first_in_slots(shown, per_second * time_base):
        first, last = _key_before(notes, keys, number_of[pts]), number_of[pts]
        run = Run(first, last, (pts,))
        while runs and runs[-1].last >= run.first:
            before = runs.pop()
            run = Run(min(before.first, run.first), max(before.last, run.last), before.wanted_pts + run.wanted_pts)
        runs.append(run)
    return tuple(runs)


def first_in_slots(pts: Sequence[int], slots_per_unit: Fraction) -> Iterator[int]:
    """Yield the first of the ascending times in each slot, counted from the first of all."""
    last_slot = -1
    for value in pts:
        slot = (value - pts[0]) * slots_per_unit.numerator // slots_per_unit.denominator
        if slot > last_slot:
            last_slot = slot
            yield value


def _is_plain(notes: Sequence[PacketNote], reorder_depth: int) -> bool:
    """Tell whether frames and packets correspond one to one, whatever part is decoded.

    The first packet must be a key frame and nothing shown may precede it, or nobody knows which of the first frames a
    decoder gives out. Times must be unique.
    """
    shown = [note.pts for note in notes if note.is_shown]
    if not shown or not notes[0].is_key or min(shown) < notes[0].pts:
        return False
    return _reordering_at_most([note.pts for note in notes], reorder_depth)


def _reordering_at_most(pts: Sequence[int], depth: int) -> bool:
    """Tell whether all times are different, and none is preceded by more than `depth` later ones."""
    ordered: list[int] = []
    for value in pts:
        position = bisect_left(ordered, value)
        if len(ordered) - position > depth or (position < len(ordered) and ordered[position] == value):
            return False
        ordered.insert(position, value)  # near the end: cheap
    return True


def _key_before(notes: Sequence[PacketNote], keys: Sequence[int], number: int) -> int:
    """Return the last key frame from which decoding gives the picture of packet `number`; the first one always does."""
    position = bisect_right(keys, number) - 1
    while notes[keys[position]].pts > notes[number].pts:
        position -= 1
    return keys[position]
