"""What models give and cost: accuracy against latency, the size of the file as area, the Pareto front marked."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from pipeline.config.choose import Targets
from pipeline.metrics.candidates import MIB, Candidate, front, short_names
from pipeline.pictures.canvas import (
    BLUE,
    DARK,
    DOTS_PER_INCH,
    GREEN,
    GREY,
    LIGHT_BLUE,
    ORANGE,
    new_figure,
    style,
    to_png,
)

_MIN_PERCENT_SHOWN = 5.0  # a narrower scale would make a difference of one frame look like a cliff
_LARGEST_POINTS_SQUARED = 900.0  # area of the largest file's mark
_MAX_NAMED = 14  # with more, the names of those that another beats in everything would only be in the way
_BEATEN = "#d0d0d0"

# Where a name can be, in points from its mark's edge and in directions (right, up): the first that is free is taken.
# adjustText pushes names apart instead, and leaves some where they cannot be read: in 20 pictures of 5 to 40 models, at
# the best of 27 settings, 6 pairs of names overlapped, 16 names lay on marks and 8 over the edge. So it is 0, 0 and 0.
_DISTANCES_POINTS = (6, 19, 33, 49, 70, 95)
_DIRECTIONS = ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
_POINTS_PER_INCH = 72


def tradeoff(
    candidates: Sequence[Candidate],
    *,
    chosen: Candidate,
    chosen_is: str,
    title: str,
    accuracy_label: str,
    num_threads: int,
    targets: Targets | None = None,
) -> bytes:
    """Draw accuracy against latency.

    Args:
        candidates: At least one.
        chosen: One of them.
        chosen_is: What it is, such as `deployed`.
        title: What they are.
        accuracy_label: What the accuracy is, with its unit, %.
        num_threads: Threads that the latency was measured with.
        targets: The one of latency is drawn as a line, if there is any.

    Returns:
        A PNG file.
    """
    on_front = front(candidates)
    latency_target_ms = targets.latency_ms if targets else None
    with style():
        figure = new_figure(11, 6.5)
        axes = figure.subplots()
        _scale(axes, candidates, latency_target_ms)
        _draw_target(axes, latency_target_ms)
        _draw_front_line(axes, on_front)
        _draw_marks(axes, candidates, chosen, on_front)
        threads = f"{num_threads} {'thread' if num_threads == 1 else 'threads'}"
        axes.set_xlabel(f"median latency of one picture in LiteRT on {threads} of this machine, not of a phone, ms")
        axes.set_ylabel(accuracy_label)
        axes.set_title(f"{title}: best is top left", loc="left", pad=34)
        _draw_legend(axes, candidates, chosen_is)
        _write_names(figure, axes, candidates, chosen, on_front)
        return to_png(figure)


def _scale(axes: Axes, candidates: Sequence[Candidate], latency_target_ms: float | None) -> None:
    """Let latency begin at 0, so that lengths can be compared, and leave room for names, but little above 100%."""
    percents = [100 * one.accuracy for one in candidates]
    low, high = min(percents), max(percents)
    shown = 1.5 * max(high - low, _MIN_PERCENT_SHOWN)
    top = min((low + high + shown) / 2, 100 + 0.15 * shown)
    axes.set_ylim(top - shown, top)
    axes.set_xlim(0, 1.2 * max([*(one.latency_ms for one in candidates), latency_target_ms or 0]))
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)
    axes.axhspan(100, 200, color="#f4f4f4")  # nothing is above 100%


def _draw_target(axes: Axes, latency_ms: float | None) -> None:
    """Draw the target of latency as a line; that of size has no axis, and is told in words."""
    if latency_ms is not None:
        axes.axvline(latency_ms, color=GREEN, linestyle="--", linewidth=1.5, zorder=1)
        axes.text(latency_ms, 0.02, f" target {latency_ms:g} ms", transform=axes.get_xaxis_transform(), color=GREEN)


def _draw_front_line(axes: Axes, on_front: Sequence[Candidate]) -> None:
    """Join, as steps, the most accurate at each latency: what is not on the line bought its place with a small file."""
    ordered = sorted(on_front, key=lambda one: (one.latency_ms, -one.accuracy))
    steps = [one for i, one in enumerate(ordered) if all(one.accuracy > other.accuracy for other in ordered[:i])]
    right = axes.get_xlim()[1]
    x, y = [*(one.latency_ms for one in steps), right], [*(100 * one.accuracy for one in steps)]
    axes.step(x, [*y, y[-1]], where="post", color=LIGHT_BLUE, linewidth=2, zorder=1.5)


def _draw_marks(axes: Axes, candidates: Sequence[Candidate], chosen: Candidate, on_front: Sequence[Candidate]) -> None:
    """Draw a mark each; the chosen one lies on top, below it those of the front, the small ones above the large."""
    ordered = sorted(candidates, key=lambda one: (one is chosen, one in on_front, -one.size_bytes))
    axes.scatter(
        [one.latency_ms for one in ordered],
        [100 * one.accuracy for one in ordered],
        s=[_area(one, candidates) for one in ordered],
        c=[ORANGE if one is chosen else BLUE if one in on_front else _BEATEN for one in ordered],
        edgecolors="white",
        linewidths=1,
        zorder=2,
    )


def _area(one: Candidate, candidates: Sequence[Candidate]) -> float:
    """Return the area of a mark in square points, which goes with the size of the file."""
    return _LARGEST_POINTS_SQUARED * one.size_bytes / max(other.size_bytes for other in candidates)


def _draw_legend(axes: Axes, candidates: Sequence[Candidate], chosen_is: str) -> None:
    """Explain colours and areas in a line above the diagram."""
    colours = {chosen_is: ORANGE, "on the Pareto front": BLUE, "another beats it": _BEATEN}
    marks = {text: Line2D([], [], marker="o", ls="", color=colour, ms=9) for text, colour in colours.items()}
    largest = max(one.size_bytes for one in candidates)
    for mebibytes in (_round(largest * share / MIB) for share in (0.1, 0.4, 1)):
        diameter = math.sqrt(_LARGEST_POINTS_SQUARED * mebibytes * MIB / largest)
        marks[f"{mebibytes:g} MiB"] = Line2D([], [], marker="o", ls="", color="white", mec=GREY, ms=diameter)
    axes.legend(
        marks.values(),
        marks,
        ncols=len(marks),
        loc="lower left",
        bbox_to_anchor=(-0.01, 0.995),
        frameon=False,
        borderpad=0.2,
        handletextpad=0.9,
        columnspacing=2.0,
    )


def _round(value: float) -> float:
    """Return a number with one digit that is not 0, or two from 10 on."""
    return float(f"{value:.{1 if value < 10 else 2}g}")


def _write_names(
    figure: Figure, axes: Axes, candidates: Sequence[Candidate], chosen: Candidate, on_front: Sequence[Candidate]
) -> None:
    """Write names beside marks where nothing else is: the chosen one's first, then those of the front."""
    figure.draw_without_rendering()  # lays out, so that positions are those of the finished picture
    radii = [math.sqrt(_area(one, candidates)) / 2 for one in candidates]
    taken = [_box(axes, *pair) for pair in zip(candidates, radii, strict=True)]
    names = short_names([one.name for one in candidates])
    named = sorted(
        zip(candidates, names, radii, strict=True),
        key=lambda entry: (entry[0] is not chosen, entry[0] not in on_front, entry[0].latency_ms, -entry[0].accuracy),
    )
    for one, name, radius in named:
        is_good = one is chosen or one in on_front
        if is_good or len(candidates) <= _MAX_NAMED:
            taken.append(
                _write_beside(
                    axes,
                    one,
                    radius,
                    f"{name}  {one.accuracy:.1%}",
                    taken,
                    color=DARK if is_good else GREY,
                    weight="bold" if one is chosen else "normal",
                )
            )


def _box(axes: Axes, one: Candidate, radius_points: float) -> Bbox:
    """Return a mark's box in pixels."""
    x, y = axes.transData.transform((one.latency_ms, 100 * one.accuracy))
    radius = (radius_points + 1) * DOTS_PER_INCH / _POINTS_PER_INCH
    return Bbox.from_bounds(x - radius, y - radius, 2 * radius, 2 * radius)


def _write_beside(
    axes: Axes, one: Candidate, radius_points: float, text: str, taken: Sequence[Bbox], **style: Any
) -> Bbox:
    """Write a text at the first place around a mark that is free and inside the diagram; return its box in pixels."""
    frame = axes.get_window_extent()
    for distance, (right, up) in product(_DISTANCES_POINTS, _DIRECTIONS):
        away = radius_points + distance
        name = axes.annotate(
            text,
            (one.latency_ms, 100 * one.accuracy),
            (right * away, up * away),
            textcoords="offset points",
            ha=("right", "center", "left")[right + 1],
            va=("top", "center", "bottom")[up + 1],
            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.7} if distance > _DISTANCES_POINTS[0] else None,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},  # the front's line may run behind it
            **style,
        )
        name.get_window_extent()  # moves the text to its place
        box = Text.get_window_extent(name)  # without the line to the mark
        is_inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        if is_inside and not any(box.overlaps(other) for other in taken):
            return box
        name.remove()
    return Bbox.null()  # no room is left: the mark stays without a name, which the table has
