"""Opens a video, counts its times, and tells whether it is whole."""

from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.errors import InputError
from pipeline.files.suffixes import VIDEO_SUFFIXES

# How far before the declared end a healthy clip may stop, beside its longest gap between frames. Recorders round
# durations by a frame or two; a copy that broke off usually misses far more.
_MAX_MISSING_SECONDS = Fraction(1, 4)

THREAD_TYPE = "AUTO"  # frames and slices, as many threads as there are cores
_CONTAINER_TIME_BASE = Fraction(1, av.time_base)
_VIDEO_EXPECTED = f"a complete video ({' '.join(VIDEO_SUFFIXES)}) that plays from beginning to end"
_COPY_AGAIN = "copy it from the phone again, record it again, or remove it"

_ENCRYPTED = (b"encv", b"drmi")  # sample entries of protected streams (ISO/IEC 14496-12; Apple's FairPlay)
_PHOTO_BRANDS = (b"heic", b"heix", b"mif1", b"avif")  # of files that are built like videos
_TABLES_BYTES = 4_000_000  # at a file's beginning or end, where its tables are

TimedFrame = tuple[Fraction, av.VideoFrame]  # seconds from the clip's first frame, and the frame


def open_clip(path: Path) -> InputContainer:
    """Open a file, or tell why that is impossible."""
    try:
        if path.stat().st_size == 0:
            raise InputError(found=f"{path} is empty (0 bytes)", expected=_VIDEO_EXPECTED, remedy=_COPY_AGAIN)
        container = av.open(str(path.absolute()), "r")  # absolute: FFmpeg takes "a:b.mp4" for a protocol
    except (OSError, ValueError, av.FFmpegError) as error:
        if path.is_file() and lacks_index(path):
            raise InputError(
                found=f"{path} has no index (moov): the recording was never finished, or the copy broke off",
                expected=_VIDEO_EXPECTED,
                remedy=_COPY_AGAIN,
            ) from error
        raise InputError(
            found=f"{path} cannot be opened as a video: {_reason(error)}", expected=_VIDEO_EXPECTED, remedy=_COPY_AGAIN
        ) from error
    if container.format.name.endswith("_pipe") or container.format.name == "image2" or _is_heif(path):
        container.close()
        raise InputError(
            found=f"{path} is a photo by its content",
            expected=_VIDEO_EXPECTED,
            remedy="give it a photo's ending and move it to the label's folder below data/photos/",
        )
    if container.format.name == "gif":
        _check_gif_end(path)
    return container


def lacks_index(path: Path) -> bool:
    """Tell whether a file is of the MP4 family (ISO/IEC 14496-12) and has no `moov` box, which is written last."""
    with path.open("rb") as file:
        kinds, end = [], path.stat().st_size
        while (begin := file.tell()) + 8 <= end:
            head = file.read(16)
            size, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if size == 1:
                size = int.from_bytes(head[8:16], "big")
            kinds.append(kind)
            if size < 8:  # 0 is: to the end
                break
            file.seek(begin + size)
    return kinds[:1] == [b"ftyp"] and not {b"moov", b"moof"} & set(kinds)


def is_encrypted(path: Path) -> bool:
    """Tell whether the tables of a file of the MP4 family name a protected stream."""
    with path.open("rb") as file:
        found = file.read(_TABLES_BYTES)
        file.seek(-min(path.stat().st_size, _TABLES_BYTES), 2)
        found += file.read()
    return b"sinf" in found and any(kind in found for kind in _ENCRYPTED)


def _is_heif(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(12)[4:] in [b"ftyp" + brand for brand in _PHOTO_BRANDS]


def _check_gif_end(path: Path) -> None:
    """Refuse a GIF without its trailer, the byte 0x3B: the format declares no duration, so nothing else shows a cut."""
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, 64), 2)
        if not file.read().rstrip(b"\0").endswith(b";"):
            raise InputError(
                found=f"{path} has no end marker: it was cut off", expected=_VIDEO_EXPECTED, remedy=_COPY_AGAIN
            )


def video_stream(path: Path, container: InputContainer) -> VideoStream:
    """Return the main video stream, ready to decode; a cover picture of an audio file is none."""
    stream = container.streams.best("video")
    if isinstance(stream, VideoStream) and stream.disposition & av.stream.Disposition.attached_pic:
        raise InputError(
            found=f"{path} has no moving picture, only a cover picture beside its sound",
            expected=_VIDEO_EXPECTED,
            remedy="remove it, or move the picture alone to the label's folder below data/photos/",
        )
    if not isinstance(stream, VideoStream):
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


class DecodingOrder:
    """Stands in for presentation times where a file has none: AVI, and whatever was copied out of one.

    What FFmpeg then calls a frame's presentation time is a guess, and jumps back and forth where frames are predicted
    from later ones. But decoders give frames out in the order in which they are presented, and packets come at their
    decoding times: so the first frame is presented at the time of the first packet, the second at that of the second.
    """

    def __init__(self, container: InputContainer) -> None:
        self._is_needed: bool | None = True if container.format.name == "avi" else None
        self._times: deque[int | None] = deque()

    def note_packet(self, packet: "av.Packet[Any]") -> None:
        """Remember when a packet of the stream is decoded; the first one tells whether presentation times are there."""
        if packet.size == 0:
            return
        if self._is_needed is None:
            self._is_needed = packet.pts is None
        if self._is_needed:
            self._times.append(packet.dts)

    def time_stamp_of(self, frame: av.VideoFrame) -> int | None:
        """Return when the next frame is presented, in the stream's units; None if nobody knows."""
        if not self._is_needed:
            return frame.pts
        return self._times.popleft() if self._times else None


class Clock:
    """Turns time stamps into exact seconds from the first frame, and remembers how far the file reached."""

    def __init__(self, stream: VideoStream) -> None:
        self._time_base, self._stream_index = time_base_of(stream), stream.index
        rate = stream.average_rate or stream.guessed_rate
        self._frame_seconds = Fraction(1, rate) if rate else Fraction(1, 25)
        self.first_pts_seconds: Fraction | None = None
        self.last_time = Fraction(0)
        self.frame_end = Fraction(0)
        self.packet_end = Fraction(0)
        self.longest_gap = Fraction(0)
        self.num_packets = 0

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
        """Remember how far the packets of any stream reach, on the container's clock, and how many are the video's."""
        self.num_packets += packet.stream.index == self._stream_index and packet.size > 0
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None:
            self.packet_end = max(self.packet_end, (stamp + (packet.duration or 0)) * packet.time_base)


def check_end(path: Path, container: InputContainer, stream: VideoStream, clock: Clock) -> None:
    """Refuse a clip without frames, and one that ends well before what the stream or the container declares."""
    if clock.first_pts_seconds is None:
        raise InputError(
            found=f"{path} has a video stream, but no frame in it can be decoded",
            expected=_VIDEO_EXPECTED,
            remedy=_COPY_AGAIN,
        )
    missing = missing_end(container, stream, clock)
    if missing is not None:
        end, declared = missing
        raise InputError(
            found=f"{path} stops after {float(end):.1f} s, but declares {float(declared):.1f} s: it was cut off",
            expected=_VIDEO_EXPECTED,
            remedy=_COPY_AGAIN,
        )


def missing_end(container: InputContainer, stream: VideoStream, clock: Clock) -> tuple[Fraction, Fraction] | None:
    """Return where a clip stops and where it ought to, in seconds, or None if it is whole.

    The container's duration is that of its longest stream, often the sound, so it is held against the packets of all
    streams; the video's own duration, where the container has one, against its frames. Some writers count a late
    start as part of the duration and some do not: the reading that is kinder to the clip is used. What an edit list
    declares, as trimming on a phone writes it, may be longer than what it shows: a file of the MP4 family all of whose
    samples were read was not cut off, whatever it declares.
    """
    if _is_read_to_its_end(container, stream, clock):
        return None
    reached = max(clock.frame_end, clock.frame_end + (clock.first_pts_seconds or 0))
    checks = [
        (reached, (stream.duration or 0) * time_base_of(stream)),
        (max(reached, clock.packet_end), (container.duration or 0) * _CONTAINER_TIME_BASE),
    ]
    return next(
        (check for check in checks if check[1] - check[0] > _MAX_MISSING_SECONDS + clock.longest_gap),
        None,
    )


def _is_read_to_its_end(container: InputContainer, stream: VideoStream, clock: Clock) -> bool:
    """Tell whether all samples that a table in an MP4 file lists were read; fragmented files have no such table."""
    has_table = "mp4" in container.format.name.split(",") and stream.frames > 0
    return has_table and 0 < len(stream.index_entries) <= clock.num_packets


def time_base_of(stream: VideoStream) -> Fraction:
    """Return the unit of a stream's time stamps in seconds; FFmpeg always has one, PyAV's types do not know it."""
    return stream.time_base or _CONTAINER_TIME_BASE


def damaged(path: Path, time: Fraction, reason: object) -> InputError:
    """Return the error for a clip that breaks in the middle, or whose pictures nobody can read."""
    if time == 0 and is_encrypted(path):
        return InputError(
            found=f"{path} is encrypted",
            expected=_VIDEO_EXPECTED,
            remedy="remove it: films that were bought or rented cannot be read, recordings of a phone can",
        )
    detail = _reason(reason) if isinstance(reason, Exception) else reason
    return InputError(
        found=f"{path} is damaged or cut off {float(time):.1f} s after its beginning: {detail}",
        expected=_VIDEO_EXPECTED,
        remedy=_COPY_AGAIN,
    )


def _reason(error: Exception) -> str:
    """Return what FFmpeg or the system says, without the path that their messages repeat."""
    return str(getattr(error, "strerror", None) or error)
