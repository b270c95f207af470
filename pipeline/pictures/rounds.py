"""Draws how a federated head got better round by round, beside what it is held against."""

from collections.abc import Sequence

from pipeline.metrics.intervals import Interval
from pipeline.pictures.canvas import BLUE, GREEN, GREY, LIGHT_BLUE, new_figure, style, to_png


def rounds_picture(
    accuracies: Sequence[float],
    interval: Interval,
    *,
    central: float,
    alone: float,
    asked_of: str,
    num_clients: int,
) -> bytes:
    """Return a PNG with accuracy against rounds.

    Args:
        accuracies: Before the first round and after each, shares.
        interval: Of the last one.
        central: Accuracy of a head that was trained on all rows in one place.
        alone: Mean accuracy of clients that learn alone.
        asked_of: What was held out, in the plural.
        num_clients: That learned together.
    """
    with style():
        figure = new_figure(8, 4.5)
        axes = figure.subplots()
        last = len(accuracies) - 1
        axes.axhline(100 * central, color=GREEN, linestyle="--", linewidth=1.4, label="central")
        axes.plot(range(last + 1), [100 * one for one in accuracies], color=BLUE, linewidth=2, label="federated")
        low, high = 100 * interval["low"], 100 * interval["high"]
        axes.plot([last, last], [low, high], color=LIGHT_BLUE, linewidth=5, label="its 95% interval", zorder=1)
        axes.axhline(100 * alone, color=GREY, linestyle=":", linewidth=1.4, label="a client alone, on average")
        axes.set_xlim(0, last * 1.02)
        axes.set_ylim(0, 101)
        axes.set_xlabel("round")
        axes.set_ylabel(f"accuracy on {asked_of} held out, %")
        axes.set_title(f"{num_clients} clients learn together", loc="left")
        figure.legend(frameon=False, loc="outside lower center", ncols=4)
        return to_png(figure)
