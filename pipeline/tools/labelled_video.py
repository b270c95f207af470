"""Draws what a classifier says into the frames of a video."""

import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from secrets import token_hex
from typing import Final

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace
from matplotlib.figure import Figure

from pipeline.errors import PipelineError
from pipeline.files.os_errors import telling_full_disk
from pipeline.pictures.canvas import short, style
from pipeline.processes.progress import counted
from pipeline.video import sample_frames

_CODEC: Final = "libx264"
_OPTIONS = {"preset": "veryfast", "crf": "20"}
_BT709 = 1  # of primaries and transfer, in ISO/IEC 23091-2
_TICKS_PER_SECOND = 90_000  # of time stamps; the usual ones of MPEG, which all frame rates of films divide
_SHARE_OF_HEIGHT = 0.09  # of the caption's strip
_MIN_STRIP_PIXELS = 24
_SHARE_OF_STRIP = 0.8  # of a smaller strip above it
_NARROWER = 0.95  # letters do not shrink quite as their size does
_MAX_LETTERS = 32
_MAX_FURTHER_LETTERS = 60

Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Caption:
    """What is written into a frame.

    Attributes:
        name: Of what it shows.
        probability: Of that, 0..1; None for nothing to be written of it.
        further: Lines that stand above, in smaller letters.
    """

    name: str
    probability: float | None
    further: tuple[str, ...] = ()


def write_labelled(source: Path, target: Path, captions: Mapping[float, Caption]) -> None:
    """Write a video again, upright, in H.264 and without sound, with a caption in each frame; whole or not at all.

    Args:
        source: The video.
        target: A .mp4 file that is not there yet.
        captions: By `VideoFrame.pts_seconds`, for every frame.

    Raises:
        PipelineError: If the source cannot be read, or the target cannot be written.
    """
    temporary = target.with_name(f".{target.name}.{token_hex(8)}")
    try:
        with telling_full_disk(target):
            _write(source, temporary, captions)
            temporary.replace(target)
    except OSError as error:
        raise PipelineError(
            found=f"{target} cannot be written ({error.strerror or error})",
            expected="a folder to write into",
            remedy="choose another place for --video",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _write(source: Path, temporary: Path, captions: Mapping[float, Caption]) -> None:
    frames = sample_frames(source, per_second=1000, width_pixels=sys.maxsize)
    with av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = None
        for frame in counted(frames, f"predict, {source.name}", total=len(captions), unit="frame"):
            picture = captioned(_even(frame.image), captions[frame.pts_seconds])
            if stream is None:
                stream = container.add_stream(_CODEC, rate=_rate(captions), options=_OPTIONS)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                _describe(stream.codec_context)
            encoded = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            encoded.pts = round(frame.pts_seconds * _TICKS_PER_SECOND)
            encoded.time_base = Fraction(1, _TICKS_PER_SECOND)
            container.mux(stream.encode(encoded))
        if stream is not None:
            container.mux(stream.encode())


def _describe(context: av.VideoCodecContext) -> None:
    """Say how time is counted and what the colours are, so that no player has to guess."""
    context.time_base = Fraction(1, _TICKS_PER_SECOND)
    context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
    context.color_primaries = context.color_trc = _BT709


def captioned(picture: Rgb, caption: Caption) -> Rgb:
    """Return a frame, uint8 [height, width, 3], with a dark strip at its lower edge that says what it shows.

    A thin line in the strip is as long as the probability. What is too long is written smaller.
    """
    height, width = picture.shape[:2]
    strip = min(height, max(_MIN_STRIP_PIXELS, round(height * _SHARE_OF_HEIGHT)))
    drawn = picture.copy()
    lower, margin = drawn[height - strip :], strip // 3
    percent = "" if caption.probability is None else f"  {caption.probability:.0%}"
    _write_line(lower, short(caption.name, _MAX_LETTERS) + percent, margin)
    lower[-max(2, strip // 12) :, : round(width * (caption.probability or 0))] = 255
    num_further = len(caption.further)
    small = min(round(strip * _SHARE_OF_STRIP), (height - strip) // max(1, num_further))
    for number, line in enumerate(caption.further if small else ()):
        top = height - strip - small * (num_further - number)
        _write_line(drawn[top : top + small], short(line, _MAX_FURTHER_LETTERS), margin)
    return drawn


def _write_line(strip: Rgb, text: str, margin: int) -> None:
    """Make a part of a frame darker, uint8 [height, width, 3], and write a text into it."""
    height, width = strip.shape[:2]
    strip //= 3
    room = max(1, width - 3 * margin // 2)
    covered = _text(text, height, 1.0)
    if covered.shape[1] > room:
        covered = _text(text, height, _NARROWER * room / covered.shape[1])[:, :room]
    place = strip[:, margin : margin + covered.shape[1]]
    place[:] = place + (255 - place.astype(int)) * covered[:, : place.shape[1], np.newaxis] // 255


@lru_cache(maxsize=4096)
def _text(text: str, height: int, scale: float) -> npt.NDArray[np.int64]:
    """Draw a text, white on black, int64 [height, width], 0..255, with whatever fonts have its letters."""
    with style([text]):
        figure = Figure(figsize=(height * (len(text) + 8) / 100, height / 100), dpi=100, facecolor="black")
        size = scale * 0.5 * height * 72 / 100
        figure.text(0, 0.5, text, color="white", va="center_baseline", ha="left", size=size)
        content = io.BytesIO()
        figure.savefig(content, format="rgba")
    grey = np.frombuffer(content.getvalue(), np.uint8).reshape(height, -1, 4)[..., 0].astype(np.int64)
    used = np.flatnonzero(grey.any(0))
    return grey[:, : int(used[-1]) + 1] if len(used) else grey[:, :1]


def _even(picture: Rgb) -> Rgb:
    """Cut an odd last row or column off: H.264 with a colour for every four pixels has none."""
    return picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]


def _rate(captions: Mapping[float, Caption]) -> Fraction:
    """Return the mean frame rate, which players show; when a frame is shown, its own time stamp tells."""
    seconds = max(captions) - min(captions)
    return Fraction((len(captions) - 1) / seconds).limit_denominator(1001) if seconds else Fraction(1)
