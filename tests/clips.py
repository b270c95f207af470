"""Tiny clips for tests: flat or four-coloured frames, any container, rate, rotation and time stamps."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

Rgb = npt.NDArray[np.uint8]

RED, GREEN, BLUE, YELLOW = (200, 40, 40), (40, 180, 40), (40, 40, 200), (210, 200, 40)

# What each codec must be fed; everything else takes yuv420p.
_PIXEL_FORMATS = {"gif": "rgb8"}
# Encoders whose own log would be printed on the terminal, and settings that keep flat colours close to what was drawn.
_OPTIONS = {
    "libx264": {"crf": "10", "preset": "ultrafast", "x264-params": "log-level=none"},
    "libx265": {"crf": "10", "preset": "ultrafast", "x265-params": "log-level=none"},
    "libvpx-vp9": {"crf": "10", "b": "0", "deadline": "realtime", "cpu-used": "8"},
    "mpeg4": {"qmin": "1", "qmax": "2"},
    "mpeg2video": {"qmin": "1", "qmax": "2"},
}


def solid(color: tuple[int, int, int], width: int = 64, height: int = 48) -> Rgb:
    """Return one flat colour as uint8 [height, width, 3]."""
    return np.full((height, width, 3), color, np.uint8)


def quadrants(width: int = 64, height: int = 48) -> Rgb:
    """Return red, green (top), blue, yellow (bottom) quarters, uint8 [height, width, 3]: no turn leaves it as it is."""
    picture = solid(RED, width, height)
    picture[: height // 2, width // 2 :] = GREEN
    picture[height // 2 :, : width // 2] = BLUE
    picture[height // 2 :, width // 2 :] = YELLOW
    return picture


def smooth(index: int, width: int = 64, height: int = 48) -> Rgb:
    """Return a gradient that differs from index to index and has no sharp edges, as uint8 [height, width, 3]."""
    rows, columns = np.mgrid[0:height, 0:width]
    red = 20 + 200 * columns / width
    green = 230 - 200 * rows / height
    blue = 128 + 100 * np.sin(index / 3 + (rows + columns) / width)
    return np.stack([red, green, blue], -1).astype(np.uint8)


def write_clip(
    path: Path,
    frames: Sequence[Rgb],
    *,
    rate: int = 10,
    codec: str = "libx264",
    pts_ms: Sequence[int] | None = None,
    rotation: int = 0,
    mirrored: bool = False,
    audio_seconds: float = 0,
    audio_only: bool = False,
    faststart: bool = False,
    colorspace: int | None = None,
    full_range: bool = False,
    sample_aspect_ratio: Fraction | None = None,
    options: Mapping[str, str] | None = None,
) -> Path:
    """Encode frames into a clip whose container follows the path's suffix.

    Args:
        path: Where to write; its suffix names the container (.mp4, .mov, .mkv, .webm, .avi, .mpg, .gif, .3gp).
        frames: uint8 [height, width, 3] each, all of one size (even numbers for most codecs).
        rate: Frames per second; with `pts_ms` it is only what the header claims.
        codec: FFmpeg's name of the encoder.
        pts_ms: When each frame is shown, in milliseconds, ascending: a variable frame rate.
        rotation: Degrees (90, 180, 270) that a player turns the stored frames counter-clockwise by; it goes into the
            display matrix, the frames are stored as they are.
        mirrored: Whether the display matrix also changes left and right, after the rotation.
        audio_seconds: Length of an AAC track of silence that goes along; 0 for none.
        audio_only: Whether to leave out the video and keep the silence (one second unless `audio_seconds` says more).
        faststart: Whether an mp4 gets its index in front of the data, so that a cut file can still be opened.
        colorspace: Colour matrix to convert with and to declare: 1 for BT.709, 5 for BT.601 (FFmpeg's `AVColorSpace`);
            None converts with BT.601 and declares nothing.
        full_range: Whether luma spans 0..255 and says so, instead of 16..235.
        sample_aspect_ratio: Width over height of one stored pixel.
        options: Further options of the encoder, over those that keep tiny clips quick and quiet.

    Returns:
        The path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    container_options = {"movflags": "+faststart"} if faststart else {}
    with av.open(path, "w", container_options=container_options) as container:
        stream: Any = None
        if not audio_only:
            stream = container.add_stream(codec, rate=rate, options={**_OPTIONS.get(codec, {}), **(options or {})})
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = _PIXEL_FORMATS.get(codec, "yuv420p")
            _describe(stream.codec_context, colorspace, full_range, sample_aspect_ratio)
            if rotation or mirrored:
                stream.set_display_rotation(rotation, hflip=mirrored)
        silence = container.add_stream("aac", rate=16000) if audio_only or audio_seconds else None
        if stream is not None:
            stream.codec_context.time_base = Fraction(1, rate) if pts_ms is None else Fraction(1, 1000)
            _encode_frames(container, stream, frames, pts_ms=pts_ms, colorspace=colorspace, full_range=full_range)
        if silence is not None:
            _encode_silence(container, silence, audio_seconds or 1)
    return path


def _describe(context, colorspace: int | None, full_range: bool, sample_aspect_ratio: Fraction | None) -> None:
    """Declare colours and the pixels' shape in the encoder's context."""
    if colorspace is not None:
        context.colorspace = colorspace
    if full_range:
        context.color_range = 2
    if sample_aspect_ratio is not None:
        context.sample_aspect_ratio = sample_aspect_ratio


def _encode_frames(container, stream, frames, *, pts_ms, colorspace, full_range) -> None:
    """Encode all frames with their own time stamps."""
    for index, rgb in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24").reformat(
            format=stream.pix_fmt, dst_colorspace=colorspace or 5, dst_color_range=2 if full_range else 1
        )
        frame.pts = index if pts_ms is None else pts_ms[index]
        frame.time_base = stream.codec_context.time_base
        if colorspace is None:
            frame.colorspace = 2  # AVCOL_SPC_UNSPECIFIED
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _encode_silence(container, stream, seconds: float) -> None:
    """Encode zeros at 16 kHz."""
    num_samples = round(16000 * seconds)
    for first in range(0, num_samples, 1024):
        samples = np.zeros((1, min(1024, num_samples - first)), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, first, Fraction(1, 16000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
