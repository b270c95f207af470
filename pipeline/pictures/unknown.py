"""How sure heads are of what they know, and of what they do not."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from pipeline.metrics.unknown import LABEL, LEFT_OUT, NONE_TAKE, STRANGER
from pipeline.pictures.canvas import BLUE, DARK, GREY, ORANGE, RED, new_figure, style, to_png

_NUM_BINS = 40

# In the order in which they are drawn, with what they are.
_KINDS = {
    LABEL: ("takes of the labels", BLUE),
    STRANGER: ("pictures of other things", ORANGE),
    NONE_TAKE: ("takes of _none", GREY),
    LEFT_OUT: ("takes of a label, by a head that was not told of it", RED),
}


def known_and_unknown(asked: pd.DataFrame, title: str) -> bytes:
    """Draw how often which probability is said, a row for each kind of what heads were asked about.

    Args:
        asked: `kind`, `probability`, `threshold` and `is_refused` of each frame (see `metrics.unknown.asked_table`).
        title: Of the whole.

    Returns:
        A PNG file.
    """
    shown = {kind: asked[asked["kind"] == kind] for kind in _KINDS if (asked["kind"] == kind).any()}
    with style([title]):
        figure = new_figure(8, 0.8 + 1.35 * len(shown))
        figure.suptitle(title, weight="bold")
        rows = figure.subplots(len(shown), 1, squeeze=False, sharex=True)[:, 0]
        for axes, (kind, frames) in zip(rows, shown.items(), strict=True):
            _draw(axes, frames, *_KINDS[kind], is_known=kind == LABEL)
        rows[-1].set_xlabel("probability of the most probable label")
        return to_png(figure)


def _draw(axes: Axes, frames: pd.DataFrame, name: str, colour: str, *, is_known: bool) -> None:
    """Draw a histogram with the threshold; what counts stands above it."""
    share = (~frames["is_refused"] if is_known else frames["is_refused"]).mean()
    verdict = "named" if is_known else "refused"
    axes.set_title(f"{name}: {share:.0%} of {len(frames):,} frames {verdict}", loc="left", size=10, weight="normal")
    axes.hist(frames["probability"], np.linspace(0, 1, _NUM_BINS + 1).tolist(), color=colour)
    axes.axvline(frames["threshold"].median(), color=DARK, linestyle="--", linewidth=1)
    axes.set(xlim=(0, 1), ylabel="frames")
