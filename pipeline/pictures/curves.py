"""Draws how training went: loss and accuracy over the steps, for each scheme."""

from collections.abc import Mapping, Sequence
from typing import Literal

import pandas as pd
from matplotlib.lines import Line2D

from pipeline.pictures.canvas import BLUE, GREEN, GREY, ORANGE, RED, new_figure, style, to_png

_COLOURS = (BLUE, ORANGE, GREEN, RED, GREY)
_DASHES: dict[str, Literal[":", "-"]] = {"train": ":", "validation": "-"}


def training_curves(tables: Mapping[str, pd.DataFrame], *, over: str, figures: Sequence[str]) -> bytes:
    """Return a PNG with a field for each figure, and in it two lines for each table.

    Args:
        tables: By what to call them; columns are `over`, and `train_<figure>` and `validation_<figure>` of each figure.
        over: What the lines run over, such as "step".
        figures: Such as "loss" and "accuracy".
    """
    with style(tables):
        canvas = new_figure(4.8 * len(figures), 3.6)
        fields = canvas.subplots(1, len(figures), squeeze=False)[0]
        for field, figure in zip(fields, figures, strict=True):
            for number, table in enumerate(tables.values()):
                for part, dashes in _DASHES.items():
                    colour = _COLOURS[number % len(_COLOURS)]
                    field.plot(table[over], table[f"{part}_{figure}"], dashes, color=colour, linewidth=1.4)
            field.set_xlabel(over)
            field.set_title(figure)
        names = [Line2D([], [], color=_COLOURS[i % len(_COLOURS)], label=name) for i, name in enumerate(tables)]
        kinds = [Line2D([], [], color=GREY, linestyle=dashes, label=part) for part, dashes in _DASHES.items()]
        canvas.legend(handles=[*names, *kinds], loc="outside lower center", ncols=4, frameon=False)
        return to_png(canvas)
