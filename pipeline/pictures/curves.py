"""Draws how training went: over the strength of regularization, over steps, or over epochs."""

from collections.abc import Mapping, Sequence
from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from pipeline.pictures.canvas import BLUE, GREEN, GREY, ORANGE, RED, new_figure, style, to_png

_COLOURS = (BLUE, ORANGE, GREEN, RED, GREY)
_DASHES: dict[str, Literal[":", "-"]] = {"train": ":", "validation": "-", "out_of_fold": "-"}
_MEANINGS = {
    "train": "on what it was trained on",
    "validation": "on validation takes",
    "out_of_fold": "on takes that it has not seen",
}


def training_curves(tables: Mapping[str, pd.DataFrame], *, over: str, figures: Sequence[str]) -> bytes:
    """Return a PNG with a field for each figure, and in it a line for each table and part that it has.

    Args:
        tables: By what to call them; columns are `over`, and of each figure `train_<figure>`, `validation_<figure>` or
            `out_of_fold_<figure>`.
        over: What the lines run over: "step", "epoch", or "regularization", which is drawn on a logarithmic scale.
        figures: Such as "loss" and "accuracy".
    """
    parts = [part for part in _DASHES if any(f"{part}_{figures[0]}" in table for table in tables.values())]
    with style(tables):
        canvas = new_figure(4.8 * len(figures), 3.6)
        fields = canvas.subplots(1, len(figures), squeeze=False)[0]
        for field, figure in zip(fields, figures, strict=True):
            _draw(field, tables, over, figure, parts)
        names = [Line2D([], [], color=_COLOURS[i % len(_COLOURS)], label=name) for i, name in enumerate(tables)]
        kinds = [Line2D([], [], color=GREY, linestyle=_DASHES[part], label=_MEANINGS[part]) for part in parts]
        canvas.legend(handles=[*names, *kinds], loc="outside lower center", ncols=4, frameon=False)
        return to_png(canvas)


def _draw(field: Axes, tables: Mapping[str, pd.DataFrame], over: str, figure: str, parts: Sequence[str]) -> None:
    for number, table in enumerate(tables.values()):
        for part in (part for part in parts if f"{part}_{figure}" in table):
            colour = _COLOURS[number % len(_COLOURS)]
            field.plot(table[over], table[f"{part}_{figure}"], _DASHES[part], color=colour, linewidth=1.4)
    if over == "regularization":
        field.set_xscale("log")
        field.xaxis.set_major_formatter(lambda value, _: f"{value:g}")  # the usual one would write formulas
    field.set_xlabel(over)
    field.set_title(figure)
