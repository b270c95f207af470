"""Confusion matrices side by side: what is taken for what."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from pipeline.metrics.classification import count_pairs
from pipeline.pictures.canvas import BLUE, DARK, GREY, RED, new_figure, num_letters, short, style, to_png

_LETTER_INCHES = 0.085  # width of a letter of a label, on average
_TITLE_INCHES = 3.2  # width of a title above a matrix
_ERRORS_AND_RIGHT = LinearSegmentedColormap.from_list("errors_and_right", [RED, "white", BLUE])


def confusion_matrices(tables: Mapping[str, pd.DataFrame], labels: Sequence[str]) -> bytes:
    """Draw a matrix a model: rows are what a frame shows, columns what the model says.

    A cell has its count and its share of the row. Right answers are blue, errors red, deeper for a larger share.

    Args:
        tables: Predictions by the model's title, a row a frame, with columns actual and predicted.
        labels: In the order to show.

    Returns:
        A PNG file.
    """
    names = [short(label) for label in labels]
    cell = _cell_inches(len(labels))
    longest = max(map(num_letters, names)) * _LETTER_INCHES
    with style(labels):
        width = max(cell * len(labels), _TITLE_INCHES) + 0.2
        height = cell * len(labels) + (longest if longest > cell else 0.2)
        figure = new_figure(len(tables) * width + longest + 0.6, height + 1.3)
        axes = figure.subplots(1, len(tables), squeeze=False, sharey=True)[0]
        for place, (title, table) in zip(axes, tables.items(), strict=True):
            counts = count_pairs(table["actual"], table["predicted"], labels)
            _draw(place, counts, names, is_narrow=longest > cell)
            right = (table["actual"] == table["predicted"]).mean()
            place.set_title(f"{title}\n{right:.1%} of {len(table):,} frames right")
            place.set_xlabel("what the model says", color=GREY)
            place.set_ylabel("what the frame shows" if place is axes[0] else "", color=GREY)
        return to_png(figure)


def _cell_inches(num_labels: int) -> float:
    """Return a cell's side: large for a few labels, and for many as small as two lines of figures allow."""
    return float(np.clip(8 / num_labels, 0.44, 1.1))


def _draw(axes: Axes, counts: npt.NDArray[np.int64], names: Sequence[str], *, is_narrow: bool) -> None:
    """Draw one matrix, int64 [num_labels, num_labels]: frames by actual (row) and predicted label (column)."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    depths = np.sqrt(shares)  # so that small errors are seen
    signed = np.where(np.eye(len(names), dtype=bool), depths, -depths)
    axes.imshow(signed, cmap=_ERRORS_AND_RIGHT, vmin=-1, vmax=1, interpolation="nearest")
    axes.set_xticks(range(len(names)), names, rotation=90 if is_narrow else 0)
    axes.set_yticks(range(len(names)), names)
    size = 8 + 3 * (_cell_inches(len(names)) - 0.44) / 0.66
    for row, column in zip(*np.nonzero(counts), strict=True):
        count, share = counts[row, column], shares[row, column]
        colour = "white" if share > 0.5 else DARK
        axes.text(column, row, f"{count}\n{share:.0%}", ha="center", va="center", size=size, color=colour)
    edges = np.arange(-0.5, len(names))
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
