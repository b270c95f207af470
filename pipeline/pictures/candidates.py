"""What many models give and cost: accuracy against latency, the size of the file as area, the Pareto front marked."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
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
from pipeline.pictures.tradeoff import write_beside

_MIN_PERCENT_SHOWN = 5.0  # a narrower scale would make a difference of one frame look like a cliff
_LARGEST_POINTS_SQUARED = 900.0  # area of the largest file's mark
_MAX_NAMED = 14  # with more, the names of those that another beats in everything would only be in the way
_POINTS_PER_INCH = 72


def candidates_picture(
    candidates: Sequence[Candidate],
    *,
    chosen: Candidate,
    targets: Targets,
    title: str,
    accuracy_label: str,
    num_threads: int,
) -> bytes:
    """Draw accuracy against latency.

    Args:
        candidates: At least one.
        chosen: One of them.
        targets: Drawn as lines, if there are any.
        title: What they are.
        accuracy_label: What the accuracy is, with its unit, %.
        num_threads: Threads that the latency was measured with.

    Returns:
        A PNG file.
    """
    on_front = front(candidates)
    with style():
        figure = new_figure(11, 6.5)
        axes = figure.subplots()
        _scale(axes, candidates, targets)
        _draw_targets(axes, targets)
        _draw_front_line(axes, on_front)
        for one in sorted(candidates, key=lambda one: -one.size_bytes):  # small ones lie on top
            _draw_mark(axes, one, _area(one, candidates), is_chosen=one is chosen, is_on_front=one in on_front)
        axes.set_xlabel(
            f"median latency of one picture in LiteRT on {num_threads} {'thread' if num_threads == 1 else 'threads'} "
            "of this machine, not of a phone, ms"
        )
        axes.set_ylabel(accuracy_label)
        axes.set_title(f"{title}: best is top left", loc="left", pad=34)
        _draw_legend(axes, candidates)
        shown = candidates if len(candidates) <= _MAX_NAMED else [c for c in candidates if c in on_front or c is chosen]
        _write_names(figure, axes, candidates, shown, chosen, on_front)
        return to_png(figure)


def _scale(axes: Axes, candidates: Sequence[Candidate], targets: Targets) -> None:
    percents = [100 * one.accuracy for one in candidates]
    low, high = min(percents), max(percents)
    shown = 1.5 * max(high - low, _MIN_PERCENT_SHOWN)
    top = min((low + high + shown) / 2, 100 + 0.15 * shown)
    axes.set_ylim(top - shown, top)
    axes.set_xlim(0, 1.2 * max([*(one.latency_ms for one in candidates), targets.latency_ms or 0]))
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)
    axes.axhspan(100, 200, color="#f4f4f4")  # nothing is above 100%


def _draw_targets(axes: Axes, targets: Targets) -> None:
    """Draw the target of latency as a line; that of size has no axis, and is told in words."""
    if targets.latency_ms is not None:
        axes.axvline(targets.latency_ms, color=GREEN, linestyle="--", linewidth=1.5, zorder=1)
        axes.annotate(
            f"target {targets.latency_ms:g} ms",
            (targets.latency_ms, 0.01),
            (4, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color=GREEN,
        )


def _draw_front_line(axes: Axes, on_front: Sequence[Candidate]) -> None:
    """Join, as steps, the most accurate at each latency: what is not on the line bought its place with a small file."""
    ordered = sorted(on_front, key=lambda one: (one.latency_ms, -one.accuracy))
    steps = [one for i, one in enumerate(ordered) if all(one.accuracy > other.accuracy for other in ordered[:i])]
    right = axes.get_xlim()[1]
    x, y = [*(one.latency_ms for one in steps), right], [*(100 * one.accuracy for one in steps)]
    axes.step(x, [*y, y[-1]], where="post", color=LIGHT_BLUE, linewidth=2, zorder=1.5)


def _draw_mark(axes: Axes, one: Candidate, area: float, *, is_chosen: bool, is_on_front: bool) -> None:
    colour = ORANGE if is_chosen else BLUE if is_on_front else "#d0d0d0"
    axes.scatter(
        one.latency_ms,
        100 * one.accuracy,
        s=area,
        color=colour,
        edgecolors="white",
        linewidths=1,
        zorder=4 if is_chosen else 3 if is_on_front else 2,
    )


def _area(one: Candidate, candidates: Sequence[Candidate]) -> float:
    """Return the area of a mark in square points, which goes with the size of the file."""
    return _LARGEST_POINTS_SQUARED * one.size_bytes / max(other.size_bytes for other in candidates)


def _draw_legend(axes: Axes, candidates: Sequence[Candidate]) -> None:
    """Explain colours and areas in a line above the diagram."""
    largest = max(one.size_bytes for one in candidates)
    sizes = [_round(largest * share / MIB) for share in (0.1, 0.4, 1)]
    colours = [(ORANGE, "chosen"), (BLUE, "on the Pareto front"), ("#d0d0d0", "another beats it")]
    marks = [Line2D([], [], marker="o", linestyle="", color=colour, markersize=9) for colour, _ in colours]
    areas = [_LARGEST_POINTS_SQUARED * size * MIB / largest for size in sizes]
    marks += [
        Line2D([], [], marker="o", linestyle="", color="#ffffff", markeredgecolor=GREY, markersize=math.sqrt(area))
        for area in areas
    ]
    texts = [*(text for _, text in colours), *(f"{size:g} MiB" for size in sizes)]
    axes.legend(
        marks,
        texts,
        ncols=len(texts),
        loc="lower left",
        bbox_to_anchor=(-0.01, 0.995),
        frameon=False,
        borderpad=0.2,
        handletextpad=0.9,
        columnspacing=2.0,
        labelcolor=DARK,
    )


def _round(value: float) -> float:
    """Return a number with one digit that is not 0, or two from 10 on."""
    return float(f"{value:.{1 if value < 10 else 2}g}")


def _write_names(
    figure: Figure,
    axes: Axes,
    candidates: Sequence[Candidate],
    shown: Sequence[Candidate],
    chosen: Candidate,
    on_front: Sequence[Candidate],
) -> None:
    """Write names beside marks where nothing else is: the chosen one's first, then those of the front."""
    figure.draw_without_rendering()  # lays out, so that positions are those of the finished picture
    names = dict(zip(map(id, candidates), short_names([one.name for one in candidates]), strict=True))
    taken = [_box(axes, one, _area(one, candidates)) for one in candidates]
    for one in sorted(shown, key=lambda one: (one is not chosen, one not in on_front, one.latency_ms, -one.accuracy)):
        is_good = one is chosen or one in on_front
        taken.append(
            write_beside(
                axes,
                (one.latency_ms, 100 * one.accuracy),
                f"{names[id(one)]}  {one.accuracy:.1%}",
                taken,
                radius_points=_radius(_area(one, candidates)) - 5,
                color=DARK if is_good else GREY,
                weight="bold" if one is chosen else "normal",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},  # the front's line may run behind it
            )
        )


def _radius(area: float) -> float:
    return math.sqrt(area) / 2


def _box(axes: Axes, one: Candidate, area: float) -> Bbox:
    """Return a mark's box in pixels."""
    x, y = axes.transData.transform((one.latency_ms, 100 * one.accuracy))
    radius = (_radius(area) + 1) * DOTS_PER_INCH / _POINTS_PER_INCH
    return Bbox.from_bounds(x - radius, y - radius, 2 * radius, 2 * radius)
