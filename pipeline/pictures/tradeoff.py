"""What a scheme costs and what it gives: accuracy against size and against latency."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from pipeline.pictures.canvas import BLUE, GREY, ORANGE, new_figure, style, to_png

_MIN_PERCENT_SHOWN = 5.0  # a narrower scale would make a difference of one frame look like a cliff
_DISTANCES_POINTS = (11, 24, 38, 54)
_DIRECTIONS = ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))


@dataclass(frozen=True)
class SchemeCosts:
    """One scheme's point.

    Attributes:
        name: The scheme.
        accuracy: Share of test frames that are right, 0..1.
        size_bytes: Of its .tflite file.
        latency_ms: Median time of one picture.
        is_deployed: Whether the app gets this one.
    """

    name: str
    accuracy: float
    size_bytes: int
    latency_ms: float
    is_deployed: bool


def tradeoff(schemes: Sequence[SchemeCosts], *, num_frames: int, num_threads: int) -> bytes:
    """Draw accuracy against size, and against latency.

    Args:
        schemes: At least one.
        num_frames: Test frames that the accuracy was measured on.
        num_threads: Threads that the latency was measured with.

    Returns:
        A PNG file.
    """
    with style():
        figure = new_figure(12, 5)
        left, right = figure.subplots(1, 2, sharey=True)
        _draw(left, schemes, [scheme.size_bytes / 2**20 for scheme in schemes])
        _draw(right, schemes, [scheme.latency_ms for scheme in schemes])
        left.set_xlabel("size of model.tflite, MiB  (less is better)")
        right.set_xlabel(f"median latency on this machine with {num_threads} thread(s), ms  (less is better)")
        left.set_ylabel(f"accuracy on {num_frames:,} test frames, %")
        figure.suptitle("What each scheme costs and gives: best is top left; orange is deployed", weight="bold")
        _name_points(figure, left, schemes, [scheme.size_bytes / 2**20 for scheme in schemes])
        _name_points(figure, right, schemes, [scheme.latency_ms for scheme in schemes])
        return to_png(figure)


def _draw(axes: Axes, schemes: Sequence[SchemeCosts], costs: Sequence[float]) -> None:
    """Draw the points of one diagram, whose cost begins at 0 so that lengths can be compared."""
    percents = [100 * scheme.accuracy for scheme in schemes]
    low, high = min(percents), max(percents)
    shown = 1.4 * max(high - low, _MIN_PERCENT_SHOWN)
    top = min((low + high + shown) / 2, 100 + 0.15 * shown)  # room for names, but little above 100%
    axes.set_ylim(top - shown, top)
    axes.set_xlim(0, 1.25 * max(costs))
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)
    axes.axhspan(100, 200, color="#f4f4f4")  # nothing is above 100%
    for scheme, cost, percent in zip(schemes, costs, percents, strict=True):
        axes.plot(
            cost,
            percent,
            "o",
            markersize=11,
            color=ORANGE if scheme.is_deployed else BLUE,
            zorder=2 + scheme.is_deployed,
        )


def _name_points(figure: Figure, axes: Axes, schemes: Sequence[SchemeCosts], costs: Sequence[float]) -> None:
    """Write each scheme's name and accuracy beside its point, where nothing else is."""
    figure.draw_without_rendering()  # lays out, so that positions are those of the finished picture
    positions = [
        axes.transData.transform((cost, 100 * scheme.accuracy)) for scheme, cost in zip(schemes, costs, strict=True)
    ]
    taken = [Bbox.from_bounds(x - 10, y - 10, 20, 20) for x, y in positions]
    for scheme, cost in sorted(zip(schemes, costs, strict=True), key=lambda pair: (pair[1], -pair[0].accuracy)):
        taken.append(write_beside(axes, (cost, 100 * scheme.accuracy), f"{scheme.name}  {scheme.accuracy:.1%}", taken))


def write_beside(
    axes: Axes, point: tuple[float, float], text: str, taken: Sequence[Bbox], radius_points: float = 0, **style: Any
) -> Bbox:
    """Write a text at the first place around a point that is free and inside the diagram.

    Args:
        axes: The diagram, laid out.
        point: In the diagram's units.
        text: What to write.
        taken: Boxes in pixels that must stay free.
        radius_points: How far the mark reaches beyond the usual one.
        **style: What matplotlib's texts take.

    Returns:
        The text's box in pixels.
    """
    frame = axes.get_window_extent()
    for distance in (radius_points + step for step in _DISTANCES_POINTS):
        for right, up in _DIRECTIONS:
            name = axes.annotate(
                text,
                point,
                (right * distance, up * distance),
                textcoords="offset points",
                ha=("right", "center", "left")[right + 1],
                va=("top", "center", "bottom")[up + 1],
                arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.7}
                if distance > radius_points + _DISTANCES_POINTS[0]
                else None,
                **style,
            )
            name.get_window_extent()  # moves the text to its place
            box = Text.get_window_extent(name)  # without the line to the point
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                return box
            name.remove()
    return axes.annotate(text, point, **style).get_window_extent()
