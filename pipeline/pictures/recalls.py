"""How well each label is recognized, with how sure that is, and whether more takes would help."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from pipeline.pictures.canvas import BLUE, DARK, GREY, ORANGE, new_figure, short, style, to_png

_MAX_CURVES = 6  # of labels, the worst ones: more could not be told apart
_DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))


def recalls(figures: Mapping[str, Mapping[str, Mapping[str, float]]], labels: Sequence[str], subtitle: str) -> bytes:
    """Draw a row for each label: the share of its frames that is right, a dot on a line as long as its interval.

    Args:
        figures: By model, by label: recall, low and high, 0..1.
        labels: In the order to show, the first on top.
        subtitle: What the figures are of.

    Returns:
        A PNG file.
    """
    with style(labels):
        figure = new_figure(8, 1.6 + 0.42 * len(labels))
        axes = figure.subplots()
        for number, (model, of_labels) in enumerate(figures.items()):
            places = np.arange(len(labels)) + 0.22 * (number - (len(figures) - 1) / 2)
            _draw_intervals(axes, places, [of_labels[label] for label in labels], model, (BLUE, ORANGE)[number % 2])
        axes.set_yticks(range(len(labels)), [short(label) for label in labels])
        axes.set(xlim=(0, 1.02), ylim=(len(labels) - 0.5, -0.5))
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.grid(axis="x", color="#eeeeee")
        axes.set_title(f"How much of each label is recognized\n{subtitle}", size=11)
        figure.legend(loc="outside lower center", ncols=len(figures), frameon=False)
        return to_png(figure)


def _draw_intervals(
    axes: Axes, places: np.ndarray, rows: Sequence[Mapping[str, float]], name: str, colour: str
) -> None:
    low, high, middle = (np.array([row[key] for row in rows]) for key in ("low", "high", "recall"))
    axes.hlines(places, low, high, color=colour, linewidth=2, alpha=0.6)
    axes.plot(middle, places, "o", color=colour, markersize=6, label=f"{name}, with its 95% interval")


def learning_curve(table: pd.DataFrame, *, title: str) -> bytes:
    """Draw how accuracy grows with the takes: over all labels with its interval, and for the labels that are worst.

    Args:
        table: Columns `percent`, `num_takes`, `label` (empty for all), `recall`, `low` and `high`.
        title: Above the picture.

    Returns:
        A PNG file.
    """
    over_all, of_labels = table[table["label"] == ""], table[table["label"] != ""]
    last = of_labels[of_labels["percent"] == 100].sort_values("recall", kind="stable")
    with style(last["label"]):
        figure = new_figure(8, 4.8)
        axes = figure.subplots()
        axes.fill_between(over_all["num_takes"], over_all["low"], over_all["high"], color=BLUE, alpha=0.15, linewidth=0)
        axes.plot(over_all["num_takes"], over_all["recall"], "o-", color=BLUE, linewidth=2.5, label="all labels")
        for label, dashes in zip(last["label"].head(_MAX_CURVES), _DASHES, strict=False):
            one = of_labels[of_labels["label"] == label]
            axes.plot(one["num_takes"], one["recall"], linestyle=dashes, color=GREY, linewidth=1.3, label=short(label))
        axes.set(ylim=(0, 1.02), xlim=(0, None))
        axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.set_xlabel("takes that the head was trained on", color=DARK)
        axes.set_ylabel("right, of takes that it has not seen", color=DARK)
        axes.grid(color="#eeeeee")
        axes.set_title(f"{title}\n{advice(table)}", size=11)
        figure.legend(loc="outside lower center", ncols=4, frameon=False)
        return to_png(figure)


def advice(table: pd.DataFrame) -> str:
    """Say whether more takes would help, and which label most.

    The last doubling of the takes tells: what it brought is about what the next one brings, or less.

    Args:
        table: As for `learning_curve`.
    """
    over_all = table[table["label"] == ""].sort_values("percent")
    if len(over_all) < 2:
        return "Too few takes to tell how it grows"
    before, now = over_all.iloc[-2], over_all.iloc[-1]
    of_labels = table[(table["label"] != "") & (table["percent"] == now["percent"])].sort_values(
        "recall", kind="stable"
    )
    worst = of_labels.iloc[0]
    gain = 100 * (now["recall"] - before["recall"])
    grown = f"{before['num_takes']:.0f} to {now['num_takes']:.0f} takes: {gain:+.1f} points"
    if gain < 1:
        return f"{grown}; more takes of the same kind will hardly help"
    return f"{grown}; more takes would help, most of all of {short(worst['label'])} ({worst['recall']:.0%})"
