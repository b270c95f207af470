"""Confusion matrices side by side: what is taken for what."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from pipeline.pictures.canvas import BLUE, GREY, RED, new_figure, short, style, to_png

_FULL_COLOUR = 0.85  # the deepest shade; white letters are well read on it
_LETTER_INCHES = 0.085  # width of a letter of a label, on average


def confusion_matrices(tables: Mapping[str, pd.DataFrame], labels: Sequence[str]) -> bytes:
    """Draw a matrix a model: rows are what a frame shows, columns what the model says.

    A cell has its count and its share of the row. Right answers are blue, errors red, deeper for a larger share.

    Args:
        tables: Predictions by the model's title, a row a frame, with columns actual and predicted.
        labels: In the order to show.

    Returns:
        A PNG file.
    """
    side = _cell_inches(len(labels)) * len(labels)
    longest = max(len(short(label)) for label in labels) * _LETTER_INCHES
    below = longest if longest > _cell_inches(len(labels)) else 0.2
    with style(labels):
        figure = new_figure(len(tables) * (side + 0.2) + longest + 0.6, side + below + 1.3)
        axes = figure.subplots(1, len(tables), squeeze=False, sharey=True)[0]
        for place, (title, table) in zip(axes, tables.items(), strict=True):
            _draw(place, _counts(table, labels), labels)
            right = (table["actual"] == table["predicted"]).mean()
            place.set_title(f"{title}\n{right:.1%} of {len(table):,} frames right")
            place.set_xlabel("what the model says", color=GREY)
        axes[0].set_yticks(range(len(labels)), [short(label) for label in labels])
        axes[0].set_ylabel("what the frame shows", color=GREY)
        return to_png(figure)


def _cell_inches(num_labels: int) -> float:
    """Return a cell's side: large for a few labels, and for many as small as two lines of figures allow."""
    return float(np.clip(8 / num_labels, 0.44, 1.1))


def _counts(table: pd.DataFrame, labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return int64 [num_labels, num_labels]: frames by actual (row) and predicted label (column)."""
    places = {label: index for index, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, (table["actual"].map(places).to_numpy(), table["predicted"].map(places).to_numpy()), 1)
    return counts


def _draw(axes: Axes, counts: npt.NDArray[np.int64], labels: Sequence[str]) -> None:
    """Draw one matrix."""
    num_labels = len(counts)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(_colours(shares))
    size = 8 + 3 * (_cell_inches(num_labels) - 0.44) / 0.66
    for row, column in zip(*np.nonzero(counts), strict=True):
        text = f"{counts[row, column]}\n{shares[row, column]:.0%}"
        is_deep = shares[row, column] > 0.5
        axes.text(column, row, text, ha="center", va="center", size=size, color="white" if is_deep else "black")
    names = [short(label) for label in labels]
    is_narrow = max(map(len, names)) * _LETTER_INCHES > _cell_inches(num_labels)
    axes.set_xticks(range(num_labels), names, rotation=90 if is_narrow else 0)
    axes.set_xticks(np.arange(-0.5, num_labels), minor=True)
    axes.set_yticks(np.arange(-0.5, num_labels), minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def _colours(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return RGB, float64 [num_labels, num_labels, 3] in 0..1, from shares of rows; small errors are still seen."""
    is_right = np.eye(len(shares), dtype=bool)[..., None]
    full = np.where(is_right, to_rgb(BLUE), to_rgb(RED))
    depth = np.where(shares > 0, 0.12 + (_FULL_COLOUR - 0.12) * shares, 0)[..., None]
    colours: npt.NDArray[np.float64] = 1 - depth * (1 - full)
    return colours
