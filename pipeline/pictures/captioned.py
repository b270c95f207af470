"""Frames with a few words below each, in a grid; and a frame with what the model looks at drawn over it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from PIL import Image

from pipeline.pictures.canvas import DARK, GREY, ORANGE, new_figure, short, style, to_png

_LETTERS = 30  # that fit under a frame
_MAX_OPACITY = 0.75
_LINE_HEIGHT = 0.11  # of a frame's width

Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Captioned:
    """A frame with what there is to say of it.

    Attributes:
        image: uint8 [height, width, 3], RGB, 0..255.
        lines: Any texts, the first in bold; each is cut in its middle if it is too long.
    """

    image: Rgb
    lines: tuple[str, ...]


def captioned_frames(title: str, subtitle: str, frames: Sequence[Captioned], *, columns: int = 6) -> bytes:
    """Draw frames in a grid, in their order.

    Args:
        title: What they have in common.
        subtitle: How they were chosen; may have several lines.
        frames: At least one.
        columns: How many stand side by side, at most.

    Returns:
        A PNG file.
    """
    columns = min(columns, max(2, len(frames)))
    rows = math.ceil(len(frames) / columns)
    num_lines = max(len(frame.lines) for frame in frames)
    with style([title, subtitle, *(line for frame in frames for line in frame.lines)]):
        figure = new_figure(2.5 * columns, (2.2 + 0.25 * num_lines) * rows + 0.9)
        places = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in places:
            axes.set_axis_off()
        for axes, frame in zip(places, frames, strict=False):
            _draw(axes, frame, num_lines)
        figure.suptitle(title, weight="bold", size=15)
        figure.supxlabel(subtitle, color=GREY, size=10)
        return to_png(figure)


def _draw(axes: Axes, frame: Captioned, num_lines: int) -> None:
    height, width = frame.image.shape[:2]
    longer = max(height, width)
    axes.imshow(frame.image, extent=(0, width / longer, 0, height / longer), aspect="equal")
    axes.set(xlim=(0, 1), ylim=(-0.03 - _LINE_HEIGHT * num_lines, max(height / longer, 0.5625)))
    for number, line in enumerate(frame.lines):
        colour, weight = (DARK, "bold") if number == 0 else (GREY, "normal")
        axes.text(
            0, -0.03 - _LINE_HEIGHT * number, short(line, _LETTERS), va="top", size=8.5, color=colour, weight=weight
        )


def with_heat(image: Rgb, cells: npt.NDArray[np.float32]) -> Rgb:
    """Draw over a frame what speaks for a label: grey where nothing does, orange where most does.

    Args:
        image: uint8 [height, width, 3], RGB, 0..255.
        cells: float32 [rows, columns]; what is negative counts as nothing.
    """
    positive = np.maximum(cells, 0)
    largest = float(positive.max())
    scaled = Image.fromarray(positive / largest if largest else positive)
    height, width = image.shape[:2]
    strength = np.clip(np.asarray(scaled.resize((width, height), Image.Resampling.BICUBIC)), 0, 1)[..., None]
    grey = np.repeat(np.asarray(Image.fromarray(image).convert("L"), np.float32)[..., None], 3, 2)
    colour = 255 * np.array(to_rgb(ORANGE), np.float32)
    opacity = _MAX_OPACITY * strength
    drawn: Rgb = np.clip(grey * (1 - opacity) + colour * opacity, 0, 255).astype(np.uint8)
    return drawn
