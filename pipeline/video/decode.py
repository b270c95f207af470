"""Reads videos with FFmpeg's libraries. The only importer of PyAV in the pipeline.

Everything that could differ from machine to machine is pinned: FFmpeg's bit-exact decoding and scaling paths are asked
for, scaling runs in one thread, and a clip with a damaged part is refused rather than concealed. (H.265 and VP9 carry
no redundancy: a flipped bit inside a complete packet can pass unseen there, and FFmpeg's `err_detect` finds no more.)
PyAV keeps FFmpeg's own log off the terminal as long as nobody sets its log level.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.filter import Graph
from av.sidedata.sidedata import Type as SideDataType
from av.video.stream import VideoStream

from pipeline.errors import PipelineError
from pipeline.files.suffixes import VIDEO_SUFFIXES

# Bicubic is what the ffmpeg program uses unless told otherwise; swscale widens it when it shrinks, so nothing aliases.
# The others make it exact: chroma is interpolated in full, and the C and SIMD paths of swscale give equal bytes.
SCALE_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"

# How far before the declared end a healthy clip may stop, beside its longest gap between frames. Recorders round
# durations by a frame or two; a copy that broke off usually misses far more.
_MAX_MISSING_SECONDS = Fraction(1, 4)

THREAD_TYPE = "AUTO"  # frames and slices, as many threads as there are cores
_CONTAINER_TIME_BASE = Fraction(1, av.time_base)
_VIDEO_EXPECTED = f"a complete video ({' '.join(VIDEO_SUFFIXES)}) that plays from beginning to end"
_COPY_AGAIN = "copy it from the phone again, record it again, or remove it"

Rgb = npt.NDArray[np.uint8]


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
    clip's own rate yields every frame. Only the sampled frames are converted to RGB. The clip's end is checked when
    the last frame has been taken: keep what came only if the iterator ends without an error.

    Args:
        path: A video; the container is recognized by its content.
        per_second: Slots in a second.
        width_pixels: Width of the upright picture; the aspect ratio is kept, nothing is enlarged.

    Yields:
        Frames in the order in which they are presented.

    Raises:
        PipelineError: If the settings are not positive, or the file is empty, not a video, without decodable frames,
            damaged, or shorter than it declares.
    """
    if not (math.isfinite(per_second) and per_second > 0 and width_pixels >= 1):
        raise PipelineError(
            found=f"{per_second} frames a second, {width_pixels} pixels wide",
            expected="more than 0 frames a second and a width of 1 pixel or more",
            remedy="correct the settings for frames",
        )
    return _sample(path, Fraction(str(per_second)), width_pixels)


def _sample(path: Path, per_second: Fraction, width_pixels: int) -> Iterator[VideoFrame]:
    """Yield what `sample_frames` promises."""
    with _open(path) as container:
        stream = _video_stream(path, container)
        converter = _Converter(stream, width_pixels)
        last_slot = -1
        for time, frame in _decode(path, container, stream):
            slot = math.floor(time * per_second)
            if slot > last_slot:
                last_slot = slot
                try:
                    image = converter.convert(frame)
                except av.FFmpegError as error:
                    raise _damaged(path, time, error) from error
                yield VideoFrame(float(time), image)


def _open(path: Path) -> InputContainer:
    """Open a file, or tell why that is impossible."""
    try:
        if path.stat().st_size == 0:
            raise PipelineError(found=f"{path} is empty (0 bytes)", expected=_VIDEO_EXPECTED, remedy=_COPY_AGAIN)
        container = av.open(str(path.absolute()), "r")  # absolute: FFmpeg takes "a:b.mp4" for a protocol
        if container.format.name == "gif":
            _check_gif_end(path)
        return container
    except (OSError, ValueError, av.FFmpegError) as error:
        raise PipelineError(
            found=f"{path} cannot be opened as a video: {_reason(error)}", expected=_VIDEO_EXPECTED, remedy=_COPY_AGAIN
        ) from error


def _check_gif_end(path: Path) -> None:
    """Refuse a GIF without its trailer, the byte 0x3B: the format declares no duration, so nothing else shows a cut."""
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, 64), 2)
        if not file.read().rstrip(b"\0").endswith(b";"):
            raise PipelineError(
                found=f"{path} has no end marker: it was cut off", expected=_VIDEO_EXPECTED, remedy=_COPY_AGAIN
            )


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    """Return the main video stream, ready to decode; a cover picture of an audio file is none."""
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & av.stream.Disposition.attached_pic:
        kinds = ", ".join(sorted({other.type for other in container.streams})) or "none"
        raise PipelineError(
            found=f"{path} has no video stream (streams: {kinds})", expected=_VIDEO_EXPECTED, remedy=_COPY_AGAIN
        )
    if stream.codec_context is None:
        raise PipelineError(
            found=f"{path} is in a video codec that this FFmpeg cannot decode",
            expected="H.264, H.265, VP8, VP9, AV1, MPEG-4, MPEG-2, H.263 or another codec that FFmpeg decodes",
            remedy="set the camera to H.264 (on an iPhone: Settings, Camera, Formats, Most Compatible), or convert it",
        )
    stream.thread_type = THREAD_TYPE
    stream.codec_context.options = {"flags": "+bitexact"}  # the same inverse transform on every processor
    return stream


def _decode(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[tuple[Fraction, av.VideoFrame]]:
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
                time = clock.time_of(frame)
                if frame.is_corrupt:
                    raise _damaged(path, time, "a frame could not be decoded in full")
                yield time, frame
    except (OSError, ValueError, av.FFmpegError) as error:
        raise _damaged(path, clock.last_time, error) from error
    _check_end(path, container, stream, clock)


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

    def time_of(self, frame: av.VideoFrame) -> Fraction:
        """Return a frame's time.

        Frames without a time stamp (streams without a container, some program streams) come at the clip's average
        rate: their decoding time stamps are no substitute, since several decoding threads return them out of step.
        """
        pts_seconds: Fraction
        if frame.pts is not None:
            pts_seconds = frame.pts * self._time_base
        elif self.first_pts_seconds is None:
            pts_seconds = Fraction(0)
        else:
            pts_seconds = self.first_pts_seconds + self.last_time + self._frame_seconds
        if self.first_pts_seconds is None:
            self.first_pts_seconds = pts_seconds
        time = pts_seconds - self.first_pts_seconds
        self.longest_gap = max(self.longest_gap, time - self.last_time)
        self.last_time = time
        shown_seconds = frame.duration * self._time_base if frame.duration else self._frame_seconds
        self.frame_end = max(self.frame_end, time + shown_seconds)
        return time

    def note_packet(self, packet: "av.Packet[Any]") -> None:
        """Remember how far the packets of any stream reach, on the container's clock."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None:
            self.packet_end = max(self.packet_end, (stamp + (packet.duration or 0)) * packet.time_base)


def _check_end(path: Path, container: InputContainer, stream: VideoStream, clock: _Clock) -> None:
    """Refuse a clip without frames, and one that ends well before what the stream or the container declares.

    The container's duration is that of its longest stream, often the sound, so it is held against the packets of all
    streams; the video's own duration, where the container has one, against its frames. Some writers count a late
    start as part of the duration and some do not: the reading that is kinder to the clip is used.
    """
    if clock.first_pts_seconds is None:
        raise PipelineError(
            found=f"{path} has a video stream, but no frame in it can be decoded",
            expected=_VIDEO_EXPECTED,
            remedy=_COPY_AGAIN,
        )
    reached = max(clock.frame_end, clock.frame_end + clock.first_pts_seconds)
    checks = [
        (reached, (stream.duration or 0) * _time_base(stream)),
        (max(reached, clock.packet_end), (container.duration or 0) * _CONTAINER_TIME_BASE),
    ]
    for end, declared in checks:
        if declared - end > _MAX_MISSING_SECONDS + clock.longest_gap:
            raise PipelineError(
                found=f"{path} stops after {float(end):.1f} s, but declares {float(declared):.1f} s: it was cut off",
                expected=_VIDEO_EXPECTED,
                remedy=_COPY_AGAIN,
            )


def _time_base(stream: VideoStream) -> Fraction:
    """Return the unit of a stream's time stamps in seconds; FFmpeg always has one, PyAV's types do not know it."""
    return stream.time_base or _CONTAINER_TIME_BASE


@dataclass(frozen=True)
class _Layout:
    """What one filter graph is made for, in the words of its filters: the decoded frames, and their size as RGB."""

    source: str
    scale: str

    def graph(self) -> Graph:
        """Return a graph from decoded frames to RGB; colour matrix and range are the frames' own."""
        graph = Graph()
        graph.threads = 1
        nodes = [
            graph.add("buffer", self.source),
            graph.add("scale", self.scale),
            graph.add("format", "pix_fmts=rgb24"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        return graph


class _Converter:
    """Turns decoded frames into upright RGB of the wanted width, with the scaler that the ffmpeg program uses."""

    def __init__(self, stream: VideoStream, width_pixels: int) -> None:
        self._stream = stream
        self._width_pixels = width_pixels
        self._layout: _Layout | None = None
        self._graph = Graph()

    def convert(self, frame: av.VideoFrame) -> Rgb:
        """Return uint8 [height, width, 3].

        The stored picture is scaled first and turned afterwards: only then does the scaler know where the chroma
        samples of the stored picture lie, and turning a small picture is cheap.
        """
        transposed, flip_x, flip_y = _orientation(frame)
        pixel_shape = self._stream.sample_aspect_ratio or Fraction(1)
        width, height = _scaled_size(frame.width, frame.height, pixel_shape, transposed, self._width_pixels)
        image = self._scale(frame, width, height)
        if transposed:
            image = image.transpose(1, 0, 2)
        return np.ascontiguousarray(image[:: -1 if flip_y else 1, :: -1 if flip_x else 1])

    def _scale(self, frame: av.VideoFrame, width: int, height: int) -> Rgb:
        """Scale and convert in one pass, in a graph that is made anew when the frames change in shape or colours."""
        layout = _Layout(
            source=f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
            f":time_base={_time_base(self._stream)}:pixel_aspect=1/1"
            f":colorspace={int(frame.colorspace)}:range={int(frame.color_range)}",
            scale=f"{width}:{height}:flags={SCALE_FLAGS}",
        )
        if self._layout != layout:
            self._graph, self._layout = layout.graph(), layout
        self._graph.vpush(frame)
        return self._graph.vpull().to_ndarray().astype(np.uint8, copy=False)


def _scaled_size(
    width: int, height: int, pixel_shape: Fraction, transposed: bool, width_pixels: int
) -> tuple[int, int]:
    """Return the size, as stored, whose upright picture has square pixels and at most the wanted width.

    Pixels that are not square are made so by shrinking the longer side of each, never by enlarging the shorter.

    Args:
        width: Stored width.
        height: Stored height.
        pixel_shape: Width over height of one stored pixel.
        transposed: Whether the upright picture's width is the stored height.
        width_pixels: Largest width of the upright picture.
    """
    square_width, square_height = width * min(pixel_shape, Fraction(1)), height / max(pixel_shape, Fraction(1))
    factor = min(Fraction(1), width_pixels / (square_height if transposed else square_width))
    return _round(square_width * factor), _round(square_height * factor)


def _round(pixels: Fraction) -> int:
    """Round half up, to one pixel at least."""
    return max(1, math.floor(pixels + Fraction(1, 2)))


def _orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Read the display matrix: whether to transpose, and then to flip x and y.

    PyAV's `frame.rotation` (degrees counter-clockwise, as a player turns the picture) is not enough, since front
    cameras may store a mirrored matrix. The matrix is nine int32, row by row, in 16.16 fixed point, and maps the
    stored (x, y), y downwards, to (a x + c y, b x + d y), where a, b, c, d are its elements 0, 1, 3, 4
    (libavutil/display.h). Angles between the quarter turns go to the nearest one.
    """
    side_data = cast(Mapping[SideDataType, bytes], frame.side_data)  # PyAV's own types leave the keys out
    matrix = side_data.get(SideDataType.DISPLAYMATRIX)
    if matrix is None:
        return False, False, False
    a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, np.int32)[:5])
    transposed = abs(b) + abs(c) > abs(a) + abs(d)
    return (True, c < 0, b < 0) if transposed else (False, a < 0, d < 0)


def _damaged(path: Path, time: Fraction, reason: object) -> PipelineError:
    """Return the error for a clip that breaks in the middle."""
    detail = _reason(reason) if isinstance(reason, Exception) else reason
    return PipelineError(
        found=f"{path} is damaged or cut off {float(time):.1f} s after its beginning: {detail}",
        expected=_VIDEO_EXPECTED,
        remedy=_COPY_AGAIN,
    )


def _reason(error: Exception) -> str:
    """Return what FFmpeg or the system says, without the path that their messages repeat."""
    return str(getattr(error, "strerror", None) or error)
