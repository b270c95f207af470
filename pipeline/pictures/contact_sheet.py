"""Contact sheets: frames to look at, each with what it shows and what the model says."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from pipeline.pictures.canvas import DARK, GREEN, GREY, RED, new_figure, short, style, to_png

_MAX_COLUMNS = 6
_LETTERS = 26  # that fit under a thumbnail


@dataclass(frozen=True)
class Thumbnail:
    """A frame to look at.

    Attributes:
        image: uint8 [height, width, 3], RGB, 0..255.
        actual: What it shows.
        predicted: What the model says.
        probability: Of what it says, 0..1.
        origin: The take, and when in it.
        note: What else there is to say in a few words of ours; may be empty.
    """

    image: npt.NDArray[np.uint8]
    actual: str
    predicted: str
    probability: float
    origin: str
    note: str = ""


def contact_sheet(title: str, subtitle: str, thumbnails: Sequence[Thumbnail]) -> bytes:
    """Draw frames in a grid, in their order.

    Args:
        title: What they have in common.
        subtitle: How they were chosen.
        thumbnails: At least one.

    Returns:
        A PNG file.
    """
    columns = min(_MAX_COLUMNS, max(3, len(thumbnails)))
    rows = math.ceil(len(thumbnails) / columns)
    texts = [text for frame in thumbnails for text in (frame.actual, frame.predicted, frame.origin)]
    with style([title, subtitle, *texts]):
        figure = new_figure(2.5 * columns, 2.7 * rows + 0.9)
        places = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in places:
            axes.set_axis_off()
        for axes, frame in zip(places, thumbnails, strict=False):
            _draw(axes, frame)
        figure.suptitle(title, weight="bold", size=15)
        figure.supxlabel(subtitle, color=GREY, size=10)
        return to_png(figure)


def _draw(axes: Axes, frame: Thumbnail) -> None:
    """Draw one frame in a square, its texts below."""
    height, width = frame.image.shape[:2]
    longer = max(height, width)
    axes.imshow(frame.image, extent=(0, width / longer, 0, height / longer), aspect="equal")
    axes.set(xlim=(0, 1), ylim=(-0.46, max(height / longer, 0.5625)))
    lines = (
        (f"✗ {short(frame.predicted, _LETTERS - 7)} {math.floor(100 * frame.probability)}%", RED, "bold", 9.5),
        (f"✓ {short(frame.actual, _LETTERS - 2)}", GREEN, "normal", 9.5),
        (short(frame.origin, _LETTERS + 6), GREY, "normal", 7.5),
        (frame.note, DARK, "normal", 7.5),
    )
    for number, (text, colour, weight, size) in enumerate(lines):
        axes.text(0, -0.03 - 0.11 * number, text, va="top", size=size, color=colour, weight=weight)
