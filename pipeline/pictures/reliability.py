"""Reliability diagrams: whether a model that says 80% is right in 80 of 100 cases.

Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (https://arxiv.org/abs/1706.04599).
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from pipeline.pictures.canvas import BLUE, DARK, GREY, ORANGE, new_figure, style, to_png

_MAX_UPRIGHT_BINS = 10  # in more, figures would touch, and stand on end instead
_FOOT_HEIGHT = 0.1  # of a bar that has room for figures


def reliability_diagrams(tables: Mapping[str, pd.DataFrame], *, num_bins: int) -> bytes:
    """Draw a diagram a model: accuracy by confidence above, how many frames are in each bin below.

    Args:
        tables: Predictions by the model's title, a row a frame, with columns probability (of what was predicted) and
            is_right.
        num_bins: Bins of equal width.

    Returns:
        A PNG file.
    """
    with style():
        figure = new_figure(6 * len(tables), 6.4)
        rows = figure.subplots(2, len(tables), squeeze=False, sharex=True, height_ratios=[3, 1])
        for above, below, (title, table) in zip(*rows, tables.items(), strict=True):
            bins = _bins(table, num_bins)
            error = (bins["num_frames"] * (bins["accuracy"] - bins["confidence"]).abs()).sum() / len(table)
            above.set_title(
                f"{title}\n{table['probability'].mean():.1%} sure, {table['is_right'].mean():.1%} right; "
                f"expected calibration error {error:.3f}"
            )
            _draw_accuracy(above, bins, num_bins)
            _draw_counts(below, bins, num_bins)
        rows[0][0].set_ylabel("share that is right")
        rows[1][0].set_ylabel("frames")
        handles, names = rows[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
        return to_png(figure)


def _bins(table: pd.DataFrame, num_bins: int) -> pd.DataFrame:
    """Return a row a bin that has frames, by its number: num_frames, accuracy and confidence (both means, 0..1)."""
    number = np.minimum((table["probability"].to_numpy(np.float64) * num_bins).astype(int), num_bins - 1)
    grouped = table.assign(is_right=table["is_right"].astype(float)).groupby(number)
    return pd.DataFrame(
        {
            "num_frames": grouped.size(),
            "accuracy": grouped["is_right"].mean(),
            "confidence": grouped["probability"].mean(),
        }
    )


def _draw_accuracy(axes: Axes, bins: pd.DataFrame, num_bins: int) -> None:
    """Draw bars as high as the share that is right, which stands at their foot, and lines for how sure the model is."""
    middle, width = (bins.index.to_numpy() + 0.5) / num_bins, 0.92 / num_bins
    axes.bar(middle, bins["accuracy"], width, color=BLUE, label="right")
    rotation = 0 if num_bins <= _MAX_UPRIGHT_BINS else 90
    for x, share in zip(middle, bins["accuracy"], strict=True):
        colour = "white" if share > _FOOT_HEIGHT else DARK
        axes.text(x, 0.015, f"{share:.0%}", ha="center", size=8, color=colour, rotation=rotation)
    ends = middle - width / 2, middle + width / 2
    axes.hlines(bins["confidence"], *ends, color=ORANGE, linewidth=3.5, label="how sure the model is, on average")
    axes.plot([0, 1], [0, 1], "--", color=DARK, linewidth=1, label="as sure as right")
    axes.set(xlim=(0, 1), ylim=(0, 1.08))


def _draw_counts(axes: Axes, bins: pd.DataFrame, num_bins: int) -> None:
    """Draw how many frames are in each bin, with the count on top."""
    middle = (bins.index.to_numpy() + 0.5) / num_bins
    drawn = axes.bar(middle, bins["num_frames"], 0.92 / num_bins, color=GREY)
    axes.bar_label(drawn, fmt="{:,.0f}", size=8, padding=1, rotation=0 if num_bins <= _MAX_UPRIGHT_BINS else 90)
    axes.margins(y=0.25 if num_bins <= _MAX_UPRIGHT_BINS else 0.6)
    axes.set_xlabel("how sure the model is (probability of what it says)")
