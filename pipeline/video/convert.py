"""Turns decoded frames into upright RGB pictures with FFmpeg's scaler."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.sidedata.sidedata import Type as SideDataType
from av.video.stream import VideoStream

from pipeline.video.tone import Tone, needs_tone

# Bicubic is what the ffmpeg program uses unless told otherwise; swscale widens it when it shrinks, so nothing aliases.
# The others make it exact: chroma is interpolated in full, and the C and SIMD paths of swscale give equal bytes.
SCALE_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"

# One plane a colour: with these flags swscale has SIMD code for it, and only C code, a third as fast, for rgb24. The
# bytes are equal. What gets another tone afterwards keeps its steps until then.
_PIXEL_FORMAT, _DEEP_PIXEL_FORMAT, _PLANES = "gbrp", "gbrp16le", (2, 0, 1)

Rgb = npt.NDArray[np.uint8]


def _unknown_side_data(kind: type[SideDataType], value: object) -> SideDataType:
    """Make a member for a kind of side data that PyAV's list does not have, as it is older than its FFmpeg.

    Spatial video of the newest iPhones (MV-HEVC) carries such; PyAV raises ValueError for all side data of the frame
    then, the display matrix among it. What is unknown is left alone.
    """
    member: Any = object.__new__(kind)
    member._name_ = f"UNKNOWN_{value}"
    member._value_ = value
    kind._value2member_map_[value] = member
    return cast(SideDataType, member)


SideDataType._missing_ = classmethod(_unknown_side_data)  # type: ignore[assignment]


@dataclass(frozen=True)
class _Layout:
    """What one filter graph is made for, in the words of its filters: the decoded frames, and their size as RGB."""

    source: str
    scale: str
    pixel_format: str

    def graph(self) -> Graph:
        """Return a graph from decoded frames to planar RGB; colour matrix and range are the frames' own."""
        graph = Graph()
        graph.threads = 1
        nodes = [
            graph.add("buffer", self.source),
            graph.add("scale", self.scale),
            graph.add("format", f"pix_fmts={self.pixel_format}"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        return graph


class Converter:
    """Turns decoded frames into upright RGB of the wanted width, with the scaler that the ffmpeg program uses."""

    def __init__(self, stream: VideoStream, width_pixels: int) -> None:
        self._pixel_shape = stream.sample_aspect_ratio or Fraction(1)
        self._width_pixels = width_pixels
        self._layout: _Layout | None = None
        self._graph = Graph()
        self._tone: tuple[tuple[int, int], Tone | None] | None = None
        self._rotation: float | None = None
        self._orientation = (False, False, False)

    def convert(self, frame: av.VideoFrame) -> Rgb:
        """Return uint8 [height, width, 3], upright, with square pixels.

        The stored picture is scaled first and turned afterwards: only then does the scaler know where the chroma
        samples of the stored picture lie, and turning a small picture is cheap.

        Raises:
            av.FFmpegError: If FFmpeg cannot convert the frame.
        """
        if frame.rotation != self._rotation:
            self._rotation, self._orientation = frame.rotation, _orientation(frame)
        transposed, flip_x, flip_y = self._orientation
        width, height = _scaled_size(frame.width, frame.height, self._pixel_shape, transposed, self._width_pixels)
        planes = self._scale(frame, width, height)
        image = np.empty((width, height, 3) if transposed else (height, width, 3), np.uint8)
        for channel, index in enumerate(_PLANES):
            plane = planes[index].T if transposed else planes[index]
            image[..., channel] = plane[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
        return image

    def _scale(self, frame: av.VideoFrame, width: int, height: int) -> Sequence[Rgb]:
        """Scale and convert in one pass, in a graph that is made anew when the frames change in shape or colours."""
        tone = self._tone_of(int(frame.color_trc), int(frame.color_primaries))
        dtype = np.dtype(np.uint8 if tone is None else np.uint16)
        layout = _Layout(
            source=f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
            f":time_base=1/1000:pixel_aspect=1/1"
            f":colorspace={int(frame.colorspace)}:range={int(frame.color_range)}",
            scale=f"{width}:{height}:flags={SCALE_FLAGS}",
            pixel_format=_PIXEL_FORMAT if tone is None else _DEEP_PIXEL_FORMAT,
        )
        if self._layout != layout:
            self._graph, self._layout = layout.graph(), layout
        self._graph.vpush(frame)
        pulled = self._graph.vpull().planes
        planes = [np.frombuffer(memoryview(plane), dtype).reshape(height, -1)[:, :width] for plane in pulled]
        if tone is not None:
            toned = tone(np.stack([planes[index] for index in _PLANES]))
            planes = [toned[_PLANES.index(index)] for index in range(len(_PLANES))]
        return planes

    def _tone_of(self, transfer: int, primaries: int) -> Tone | None:
        """Return what makes BT.709 of such frames, or None if they are that already."""
        if self._tone is None or self._tone[0] != (transfer, primaries):
            tone = Tone(transfer, primaries) if needs_tone(transfer, primaries) else None
            self._tone = (transfer, primaries), tone
        return self._tone[1]


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

    Not for every frame: PyAV ties a frame whose side data was read to itself, and until Python looks for such knots,
    hundreds of decoded frames stay in memory (1 GB of 720p, 10 GB of 2160p).

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
