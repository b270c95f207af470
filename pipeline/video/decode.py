"""Reads videos with FFmpeg's libraries. Nothing outside this package imports PyAV.

Everything that could differ from machine to machine is pinned: FFmpeg's bit-exact decoding and scaling paths are asked
for, scaling runs in one thread, and a clip with a damaged part is refused rather than concealed. (H.265 and VP9 carry
no redundancy: a flipped bit inside a complete packet can pass unseen there, and FFmpeg's `err_detect` finds no more.)
PyAV keeps FFmpeg's own log off the terminal as long as nobody sets its log level.

Where few frames are wanted, a first pass reads all packets without decoding them (a hundredth of the work), and a
second one decodes from the key frame before each wanted frame (`plan.plan_runs`), leaving out what no other frame is
predicted from. Nobody seeks: reading on is cheap, and not every container seeks exactly. Frames and errors are those of
decoding everything, with one exception: damage inside packets that are never decoded is not seen. A clip that was cut
off is refused all the same: the first pass sees every packet.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import av.error
from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.errors import ConfigurationError, InputError
from pipeline.files.suffixes import VIDEO_SUFFIXES
from pipeline.video.convert import Converter, Rgb
from pipeline.video.plan import PacketNote, Run, plan_runs

# How far before the declared end a healthy clip may stop, beside its longest gap between frames. Recorders round
# durations by a frame or two; a copy that broke off usually misses far more.
_MAX_MISSING_SECONDS = Fraction(1, 4)

THREAD_TYPE = "AUTO"  # frames and slices, as many threads as there are cores
_CONTAINER_TIME_BASE = Fraction(1, av.time_base)
_VIDEO_EXPECTED = f"a complete video ({' '.join(VIDEO_SUFFIXES)}) that plays from beginning to end"
_COPY_AGAIN = "copy it from the phone again, record it again, or remove it"

_FRAMES_AHEAD = 2  # converted while decoding goes on; they wait in memory

# With fewer frames of the clip for one that is wanted, too little is saved to be worth reading the clip twice.
_FEWEST_FRAMES_A_SLOT = Fraction(3, 2)

# Codecs whose decoders give no frame before one that they can start at, whatever the container calls a key frame. H.264
# and H.265 also need a container that stores presentation times (mp4, mov, 3gp, Matroska): there the stream's header
# begins with a 1 (ISO/IEC 14496-15).
_CODECS_WITH_KEY_FRAMES = ("h264", "hevc", "vp9", "av1", "mjpeg", "prores")
_CODECS_WITH_HEADER = ("h264", "hevc")

_TimedFrame = tuple[Fraction, av.VideoFrame]  # seconds from the clip's first frame, and the frame


@dataclass(frozen=True)
class VideoFrame:
    """One sampled frame.

    Attributes:
        pts_seconds: When it is presented, counted from the clip's first frame.
        image: uint8 [height, width, 3], RGB 0..255, upright, with square pixels.
    """

    pts_seconds: float
    image: Rgb


def sample_frames(path: Path, *, per_second: float, width_pixels: int) -> Iterator[VideoFrame]:
    """Yield the first frame presented in each slot of 1 / per_second seconds, counted from the first frame.

    A slot in which no frame is presented yields nothing, so no frame comes twice, and a `per_second` at or above the
    clip's own rate yields every frame. Only the sampled frames are converted to RGB, and at low rates only what they
    need is decoded; that changes no frame, but damage between them can pass unseen. The clip's end is checked when the
    last frame has been taken: keep what came only if the iterator ends without an error.

    Args:
        path: A video; the container is recognized by its content.
        per_second: Slots in a second.
        width_pixels: Width of the upright picture; the aspect ratio is kept, nothing is enlarged.

    Yields:
        Frames in the order in which they are presented.

    Raises:
        ConfigurationError: If the settings are not positive.
        InputError: If the file is empty, not a video, without decodable frames, damaged, or shorter than it declares.
    """
    if not (math.isfinite(per_second) and per_second > 0 and width_pixels >= 1):
        raise ConfigurationError(
            found=f"{per_second} frames a second, {width_pixels} pixels wide",
            expected="more than 0 frames a second and a width of 1 pixel or more",
            remedy="correct the settings for frames",
        )
    return _sample(path, Fraction(str(per_second)), width_pixels)


def _sample(path: Path, per_second: Fraction, width_pixels: int) -> Iterator[VideoFrame]:
    """Yield what `sample_frames` promises: by plan where that helps, and otherwise by decoding everything."""
    last_slot = -1
    for may_plan in (True, False):
        with _open(path) as container:
            stream = _video_stream(path, container)
            if may_plan and _is_worth_a_plan(stream, per_second):
                frames = _decode_by_plan(path, container, stream, per_second)
            else:
                frames = _decode_all(path, container, stream)
            wanted = _first_in_slots(frames, per_second, last_slot)
            try:
                for time, image in _convert_ahead(path, wanted, Converter(stream, width_pixels)):
                    last_slot = math.floor(time * per_second)
                    yield VideoFrame(float(time), image)
            except _NoPlanError:
                continue
            return


def _first_in_slots(frames: Iterator[_TimedFrame], per_second: Fraction, last_slot: int) -> Iterator[_TimedFrame]:
    """Yield the first frame of each slot behind the last one."""
    for time, frame in frames:
        slot = math.floor(time * per_second)
        if slot > last_slot:
            last_slot = slot
            yield time, frame


def _convert_ahead(path: Path, frames: Iterator[_TimedFrame], converter: Converter) -> Iterator[tuple[Fraction, Rgb]]:
    """Convert frames in a thread of their own, so that decoding goes on meanwhile; order and bytes stay."""
    pending: deque[tuple[Fraction, Future[Rgb]]] = deque()
    with ThreadPoolExecutor(1) as executor:
        for time, frame in frames:
            pending.append((time, executor.submit(_convert, path, converter, time, frame)))
            if len(pending) > _FRAMES_AHEAD:
                time_of_first, image = pending.popleft()
                yield time_of_first, image.result()
        for time_of_first, image in pending:
            yield time_of_first, image.result()


def _convert(path: Path, converter: Converter, time: Fraction, frame: av.VideoFrame) -> Rgb:
    """Convert a frame, or tell why that is impossible."""
    try:
        return converter.convert(frame)
    except av.FFmpegError as error:
        raise _damaged(path, time, error) from error


def _open(path: Path) -> InputContainer:
    """Open a file, or tell why that is impossible."""
    try:
        if path.stat().st_size == 0:
            raise InputError(found=f"{path} is empty (0 bytes)", expected=_VIDEO_EXPECTED, remedy=_COPY_AGAIN)
        container = av.open(str(path.absolute()), "r")  # absolute: FFmpeg takes "a:b.mp4" for a protocol
        if container.format.name == "gif":
            _check_gif_end(path)
        return container
    except (OSError, ValueError, av.FFmpegError) as error:
        raise InputError(
            found=f"{path} cannot be opened as a video: {_reason(error)}", expected=_VIDEO_EXPECTED, remedy=_COPY_AGAIN
        ) from error


def _check_gif_end(path: Path) -> None:
    """Refuse a GIF without its trailer, the byte 0x3B: the format declares no duration, so nothing else shows a cut."""
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, 64), 2)
        if not file.read().rstrip(b"\0").endswith(b";"):
            raise InputError(
                found=f"{path} has no end marker: it was cut off", expected=_VIDEO_EXPECTED, remedy=_COPY_AGAIN
            )


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    """Return the main video stream, ready to decode; a cover picture of an audio file is none."""
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & av.stream.Disposition.attached_pic:
        kinds = ", ".join(sorted({other.type for other in container.streams})) or "none"
        raise InputError(
            found=f"{path} has no video stream (streams: {kinds})", expected=_VIDEO_EXPECTED, remedy=_COPY_AGAIN
        )
    if stream.codec_context is None:
        raise InputError(
            found=f"{path} is in a video codec that this FFmpeg cannot decode",
            expected="H.264, H.265, VP8, VP9, AV1, MPEG-4, MPEG-2, H.263 or another codec that FFmpeg decodes",
            remedy="set the camera to H.264 (on an iPhone: Settings, Camera, Formats, Most Compatible), or convert it",
        )
    stream.thread_type = THREAD_TYPE
    stream.codec_context.options = {"flags": "+bitexact"}  # the same inverse transform on every processor
    return stream


def _decode_all(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[_TimedFrame]:
    """Yield every frame with its time in seconds from the first frame; check health on the way and at the end."""
    clock = _Clock(stream)
    try:
        for packet in container.demux():
            clock.note_packet(packet)
            if packet.stream.index != stream.index:  # not packet.stream_index: it is 0 in the packets that end streams
                continue
            if packet.is_corrupt:
                raise _damaged(path, clock.last_time, "a packet is incomplete")
            for frame in stream.decode(packet):
                time = clock.time_of(frame.pts, frame.duration)
                if frame.is_corrupt:
                    raise _damaged(path, time, "a frame could not be decoded in full")
                yield time, frame
    except (OSError, ValueError, av.FFmpegError) as error:
        raise _damaged(path, clock.last_time, error) from error
    _check_end(path, container, stream, clock)


class _NoPlanError(Exception):
    """Tells that a clip has no plan, or did not give what its plan expected: decoding everything will tell more."""


def _is_worth_a_plan(stream: VideoStream, per_second: Fraction) -> bool:
    """Tell whether few of the frames are wanted, and key frames and times can be relied on."""
    codec, header = stream.codec_context.codec.canonical_name, stream.codec_context.extradata or b""
    if codec not in _CODECS_WITH_KEY_FRAMES or (codec in _CODECS_WITH_HEADER and header[:1] != b"\1"):
        return False
    return stream.average_rate is not None and stream.average_rate >= per_second * _FEWEST_FRAMES_A_SLOT


def _decode_by_plan(
    path: Path, container: InputContainer, stream: VideoStream, per_second: Fraction
) -> Iterator[_TimedFrame]:
    """Yield the first frame of each slot with its time, decoding little else than these frames need.

    Raises:
        _NoPlanError: Before the first frame or on the way. What was yielded holds.
    """
    time_base = _time_base(stream)
    try:
        notes = _read_notes(container, stream)
        depth = stream.codec_context.reorder_depth
        runs = plan_runs(notes, per_second=per_second, time_base=time_base, reorder_depth=depth)
        if runs is None:
            raise _NoPlanError
        with _open(path) as again:
            frames = _decode_runs(again, _video_stream(path, again), notes, runs)
            for pts, frame in _wanted_frames(frames, runs):
                yield (pts - runs[0].wanted_pts[0]) * time_base, frame
    except (OSError, ValueError, av.FFmpegError) as error:
        raise _NoPlanError from error


def _read_notes(container: InputContainer, stream: VideoStream) -> list[PacketNote]:
    """Read all packets without decoding them, and check that the clip was not cut off."""
    clock = _Clock(stream)
    notes = []
    for packet in container.demux():
        clock.note_packet(packet)
        if packet.stream.index != stream.index or _ends_stream(packet):
            continue
        if packet.is_corrupt or packet.pts is None or packet.has_sidedata("new_extradata"):
            raise _NoPlanError
        notes.append(PacketNote(packet.pts, packet.duration or 0, not packet.is_discard, packet.is_keyframe))
    for note in sorted(notes, key=lambda note: note.pts):
        if note.is_shown:
            clock.time_of(note.pts, note.duration)
    if not notes or _missing_end(container, stream, clock):
        raise _NoPlanError
    return notes


def _wanted_frames(frames: Iterator[av.VideoFrame], runs: Sequence[Run]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Pick the wanted frames, each with its presentation time; raise _NoPlanError unless all come, in order."""
    all_pts = [pts for run in runs for pts in run.wanted_pts]
    position = 0
    for frame in frames:
        if position < len(all_pts) and frame.pts == all_pts[position]:
            yield all_pts[position], frame
            position += 1
    if position < len(all_pts):
        raise _NoPlanError


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
                    raise _NoPlanError
                yield frame
        stream.codec_context.flush_buffers()


def _decode_run(
    packets: "Iterator[tuple[int, av.Packet[Any]]]", stream: VideoStream, notes: Sequence[PacketNote], run: Run
) -> Iterator[av.VideoFrame]:
    """Yield the frames of a run, leaving out those that are neither wanted nor needed by another."""
    kept_pts, spare = {notes[run.first].pts, *run.wanted_pts}, _spare_frames(stream)
    for number, packet in packets:
        if packet.pts != notes[number].pts:
            raise _NoPlanError
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


class _Clock:
    """Turns time stamps into exact seconds from the first frame, and remembers how far the file reached."""

    def __init__(self, stream: VideoStream) -> None:
        self._time_base = _time_base(stream)
        rate = stream.average_rate or stream.guessed_rate
        self._frame_seconds = Fraction(1, rate) if rate else Fraction(1, 25)
        self.first_pts_seconds: Fraction | None = None
        self.last_time = Fraction(0)
        self.frame_end = Fraction(0)
        self.packet_end = Fraction(0)
        self.longest_gap = Fraction(0)

    def time_of(self, pts: int | None, duration: int) -> Fraction:
        """Return the time of a frame from its time stamp and duration (0 if unknown), both in the stream's units.

        Frames without a time stamp (streams without a container, some program streams) come at the clip's average
        rate: their decoding time stamps are no substitute, since several decoding threads return them out of step.
        """
        pts_seconds: Fraction
        if pts is not None:
            pts_seconds = pts * self._time_base
        elif self.first_pts_seconds is None:
            pts_seconds = Fraction(0)
        else:
            pts_seconds = self.first_pts_seconds + self.last_time + self._frame_seconds
        if self.first_pts_seconds is None:
            self.first_pts_seconds = pts_seconds
        time = pts_seconds - self.first_pts_seconds
        self.longest_gap = max(self.longest_gap, time - self.last_time)
        self.last_time = time
        shown_seconds = duration * self._time_base if duration else self._frame_seconds
        self.frame_end = max(self.frame_end, time + shown_seconds)
        return time

    def note_packet(self, packet: "av.Packet[Any]") -> None:
        """Remember how far the packets of any stream reach, on the container's clock."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None:
            self.packet_end = max(self.packet_end, (stamp + (packet.duration or 0)) * packet.time_base)


def _check_end(path: Path, container: InputContainer, stream: VideoStream, clock: _Clock) -> None:
    """Refuse a clip without frames, and one that ends well before what the stream or the container declares."""
    if clock.first_pts_seconds is None:
        raise InputError(
            found=f"{path} has a video stream, but no frame in it can be decoded",
            expected=_VIDEO_EXPECTED,
            remedy=_COPY_AGAIN,
        )
    missing = _missing_end(container, stream, clock)
    if missing is not None:
        end, declared = missing
        raise InputError(
            found=f"{path} stops after {float(end):.1f} s, but declares {float(declared):.1f} s: it was cut off",
            expected=_VIDEO_EXPECTED,
            remedy=_COPY_AGAIN,
        )


def _missing_end(container: InputContainer, stream: VideoStream, clock: _Clock) -> tuple[Fraction, Fraction] | None:
    """Return where a clip stops and where it ought to, in seconds, or None if it is whole.

    The container's duration is that of its longest stream, often the sound, so it is held against the packets of all
    streams; the video's own duration, where the container has one, against its frames. Some writers count a late
    start as part of the duration and some do not: the reading that is kinder to the clip is used.
    """
    reached = max(clock.frame_end, clock.frame_end + (clock.first_pts_seconds or 0))
    checks = [
        (reached, (stream.duration or 0) * _time_base(stream)),
        (max(reached, clock.packet_end), (container.duration or 0) * _CONTAINER_TIME_BASE),
    ]
    return next(
        (check for check in checks if check[1] - check[0] > _MAX_MISSING_SECONDS + clock.longest_gap),
        None,
    )


def _time_base(stream: VideoStream) -> Fraction:
    """Return the unit of a stream's time stamps in seconds; FFmpeg always has one, PyAV's types do not know it."""
    return stream.time_base or _CONTAINER_TIME_BASE


def _damaged(path: Path, time: Fraction, reason: object) -> InputError:
    """Return the error for a clip that breaks in the middle."""
    detail = _reason(reason) if isinstance(reason, Exception) else reason
    return InputError(
        found=f"{path} is damaged or cut off {float(time):.1f} s after its beginning: {detail}",
        expected=_VIDEO_EXPECTED,
        remedy=_COPY_AGAIN,
    )


def _reason(error: Exception) -> str:
    """Return what FFmpeg or the system says, without the path that their messages repeat."""
    return str(getattr(error, "strerror", None) or error)
