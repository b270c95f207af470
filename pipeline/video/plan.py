"""Decides which packets of a clip have to be decoded to get the wanted frames."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from pipeline.video.bitstream import Role, Start

# A plan must spare at least a quarter of the packets; below that, decoding everything is as fast and simpler.
_LARGEST_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class PacketNote:
    """What the index pass keeps of a packet.

    Attributes:
        pts: Presentation time in units of the stream.
        duration: In the same units; 0 if unknown.
        is_shown: Whether its picture is presented; an edit list may cut it away though others need it.
        role: What a decoder needs it for.
    """

    pts: int
    duration: int
    is_shown: bool
    role: Role


@dataclass(frozen=True)
class Run:
    """Packets to decode in a row.

    Attributes:
        packets: Numbers of packets, ascending, counted over the stream's packets.
        wanted_pts: Presentation times of the frames to keep, ascending.
        starts_open: Whether the decoder must forget everything before, since the first packet does not make it.
    """

    packets: tuple[int, ...]
    wanted_pts: tuple[int, ...]
    starts_open: bool


def plan_runs(
    notes: Sequence[PacketNote], *, per_second: Fraction, time_base: Fraction, reorder_depth: int
) -> tuple[Run, ...] | None:
    """Return what to decode to get the first frame presented in each slot.

    Each wanted frame is decoded from the last start that is exact for it. On the way, pictures that no other is
    predicted from are left out.

    Args:
        notes: All packets, in decoding order.
        per_second: Slots in a second, counted from the first frame.
        time_base: The unit of `pts` in seconds.
        reorder_depth: How many frames the decoder expects to hold back. A decoder that learns of a greater depth on
            the way drops frames, and which ones depends on where it started.

    Returns:
        Runs in the order of the clip, or None if exactness cannot be shown or too little would be saved.
    """
    if not notes or not _is_plain(notes, reorder_depth):
        return None
    shown = sorted(note.pts for note in notes if note.is_shown)
    number_of = {note.pts: number for number, note in enumerate(notes)}
    starts = [number for number, note in enumerate(notes) if note.role.start is not None]
    spans = []
    for pts in first_in_slots(shown, per_second * time_base):
        start = _start_for(notes, starts, number_of[pts])
        if start is None:
            return None
        spans.append((start, number_of[pts], pts))
    runs = tuple(_merge(notes, sorted(spans)))
    wanted_pts = [pts for run in runs for pts in run.wanted_pts]
    in_order = all(earlier < later for earlier, later in pairwise(wanted_pts))
    return runs if in_order and sum(len(run.packets) for run in runs) <= _LARGEST_SHARE * len(notes) else None


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

    The first packet must be a start and nothing shown may precede it, or nobody knows which of the first frames a
    decoder gives out. Times must be unique. Parameter sets may come with starts only, and never change.
    """
    first = notes[0]
    if first.role.start is None or (
        first.role.start is Start.OPEN and any(note.is_shown and note.pts < first.pts for note in notes)
    ):
        return False
    parameter_sets = {note.role.parameter_sets for note in notes if note.role.parameter_sets}
    if len(parameter_sets) > 1 or any(note.role.parameter_sets and note.role.start is None for note in notes):
        return False
    return any(note.is_shown for note in notes) and _reordering_at_most([note.pts for note in notes], reorder_depth)


def _reordering_at_most(pts: Sequence[int], depth: int) -> bool:
    """Tell whether all times are different, and none is preceded by more than `depth` later ones."""
    ordered: list[int] = []
    for value in pts:
        position = bisect_left(ordered, value)
        if len(ordered) - position > depth or (position < len(ordered) and ordered[position] == value):
            return False
        ordered.insert(position, value)  # near the end: cheap
    return True


def _start_for(notes: Sequence[PacketNote], starts: Sequence[int], number: int) -> int | None:
    """Return the last of the starts from which decoding gives the picture of packet `number` exactly, or None."""
    for position in range(bisect_right(starts, number) - 1, -1, -1):
        start = notes[starts[position]]
        if start.role.start is Start.CLOSED or notes[number].pts >= start.pts:
            return starts[position]
    return None


def _merge(notes: Sequence[PacketNote], spans: Sequence[tuple[int, int, int]]) -> Iterator[Run]:
    """Join the spans (first packet, last packet, wanted time) that overlap, and leave out what nobody needs."""
    top_layer = max(note.role.temporal_layer for note in notes)
    position = 0
    while position < len(spans):
        first, last, _ = spans[position]
        members = [spans[position]]
        position += 1
        while position < len(spans) and spans[position][0] <= last:
            members.append(spans[position])
            last = max(last, spans[position][1])
            position += 1
        wanted_numbers = {number for _, number, _ in members}
        packets = tuple(
            number
            for number in range(first, last + 1)
            if number in wanted_numbers or _is_needed(notes[number].role, top_layer)
        )
        yield Run(packets, tuple(sorted(pts for _, _, pts in members)), notes[first].role.start is Start.OPEN)


def _is_needed(role: Role, top_layer: int) -> bool:
    """Tell whether another picture may be predicted from this one."""
    return role.is_reference or role.temporal_layer < top_layer
