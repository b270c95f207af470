"""Decodes little else than what few wanted frames need.

A first pass reads all packets without decoding them (a hundredth of the work). A second one decodes from the key frame
before each wanted frame (`plan.plan_runs`) and leaves out what no other frame is predicted from. FFmpeg itself tells
which packets hold key frames, and its decoders know which frames are no reference. Nobody seeks: reading on is cheap,
and not every container seeks exactly.

Frames and errors are those of decoding everything, with one exception: damage inside packets that are never decoded is
not seen. A clip that was cut off is refused all the same: the first pass sees every packet.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.video.clip import Clock, TimedFrame, missing_end, open_clip, time_base_of, video_stream
from pipeline.video.plan import PacketNote, Run, plan_runs

# With fewer frames of the clip for one that is wanted, too little is saved to be worth reading the clip twice.
_FEWEST_FRAMES_A_SLOT = Fraction(3, 2)

# Codecs whose decoders give no frame before one that they can start at, whatever the container calls a key frame. H.264
# and H.265 also need a container that stores presentation times (mp4, mov, 3gp, Matroska): there the stream's header
# begins with a 1 (ISO/IEC 14496-15).
_CODECS_WITH_KEY_FRAMES = ("h264", "hevc", "vp9", "av1", "mjpeg", "prores")
_CODECS_WITH_HEADER = ("h264", "hevc")


class NoPlanError(Exception):
    """Tells that a clip has no plan, or did not give what its plan expected: decoding everything will tell more."""


def is_worth_a_plan(stream: VideoStream, per_second: Fraction) -> bool:
    """Tell whether few of the frames are wanted, and key frames and times can be relied on."""
    codec, header = stream.codec_context.codec.canonical_name, stream.codec_context.extradata or b""
    if codec not in _CODECS_WITH_KEY_FRAMES or (codec in _CODECS_WITH_HEADER and header[:1] != b"\1"):
        return False
    return stream.average_rate is not None and stream.average_rate >= per_second * _FEWEST_FRAMES_A_SLOT


def decode_by_plan(
    path: Path, container: InputContainer, stream: VideoStream, per_second: Fraction
) -> Iterator[TimedFrame]:
    """Yield the first frame of each slot with its time, decoding little else than these frames need.

    Raises:
        NoPlanError: Before the first frame or on the way. What was yielded holds.
    """
    time_base = time_base_of(stream)
    try:
        notes = _read_notes(container, stream)
        depth = stream.codec_context.reorder_depth
        runs = plan_runs(notes, per_second=per_second, time_base=time_base, reorder_depth=depth)
        if runs is None:
            raise NoPlanError
        with open_clip(path) as again:
            frames = _decode_runs(again, video_stream(path, again), notes, runs)
            for pts, frame in _wanted_frames(frames, runs):
                yield (pts - runs[0].wanted_pts[0]) * time_base, frame
    except (OSError, ValueError, av.FFmpegError) as error:
        raise NoPlanError from error


def _read_notes(container: InputContainer, stream: VideoStream) -> list[PacketNote]:
    """Read all packets without decoding them, and check that the clip was not cut off."""
    clock = Clock(stream)
    notes = []
    for packet in container.demux():
        clock.note_packet(packet)
        if packet.stream.index != stream.index or _ends_stream(packet):
            continue
        if packet.is_corrupt or packet.pts is None or packet.has_sidedata("new_extradata"):
            raise NoPlanError
        notes.append(PacketNote(packet.pts, packet.duration or 0, not packet.is_discard, packet.is_keyframe))
    for note in sorted(notes, key=lambda note: note.pts):
        if note.is_shown:
            clock.time_of(note.pts, note.duration)
    if not notes or missing_end(container, stream, clock):
        raise NoPlanError
    return notes


def _wanted_frames(frames: Iterator[av.VideoFrame], runs: Sequence[Run]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Pick the wanted frames, each with its presentation time; raise NoPlanError unless all come, in order."""
    all_pts = [pts for run in runs for pts in run.wanted_pts]
    position = 0
    for frame in frames:
        if position < len(all_pts) and frame.pts == all_pts[position]:
            yield all_pts[position], frame
            position += 1
    if position < len(all_pts):
        raise NoPlanError


def _decode_runs(
    container: InputContainer, stream: VideoStream, notes: Sequence[PacketNote], runs: Sequence[Run]
) -> Iterator[av.VideoFrame]:
    """Yield the frames of the runs, each from a decoder that knows nothing of the run before; none may be damaged.

    What is presented before a run's key frame lacks what it was predicted from: it is dropped, and no sign of damage.
    """
    packets = enumerate(packet for packet in container.demux(stream) if not _ends_stream(packet))
    for run in runs:
        for frame in _decode_run(packets, stream, notes, run):
            if frame.pts is None or frame.pts >= notes[run.first].pts:
                if frame.is_corrupt:
                    raise NoPlanError
                yield frame
        stream.codec_context.flush_buffers()


def _decode_run(
    packets: "Iterator[tuple[int, av.Packet[Any]]]", stream: VideoStream, notes: Sequence[PacketNote], run: Run
) -> Iterator[av.VideoFrame]:
    """Yield the frames of a run, leaving out those that are neither wanted nor needed by another."""
    kept_pts, spare = {notes[run.first].pts, *run.wanted_pts}, _spare_frames(stream)
    for number, packet in packets:
        if packet.pts != notes[number].pts:
            raise NoPlanError
        if number >= run.first:
            stream.codec_context.skip_frame = "DEFAULT" if packet.pts in kept_pts else spare
            yield from stream.decode(packet)
        if number == run.last:
            break
    yield from stream.decode(None)


def _spare_frames(stream: VideoStream) -> Literal["DEFAULT", "NONREF"]:
    """Return which frames a decoder can leave out and still give all the others.

    H.265 calls a frame unreferenced if none of its own temporal layer is predicted from it; those of higher layers may
    be. Byte 21 of its header (ISO/IEC 14496-15, 8.3.3.1) tells whether there is one layer alone.
    """
    codec, header = stream.codec_context.codec.canonical_name, stream.codec_context.extradata or b""
    if codec == "hevc" and (len(header) <= 21 or header[21] >> 3 & 7 != 1):
        return "DEFAULT"
    return "NONREF"


def _ends_stream(packet: "av.Packet[Any]") -> bool:
    """Tell whether this is the empty packet with which PyAV ends a stream."""
    return packet.size == 0 and packet.pts is None
