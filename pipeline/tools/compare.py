"""Compares the schemes with float32, or with what they were at another revision of Git, in at most 100 columns."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.choosing.experiments import metrics_at
from pipeline.errors import ConfigurationError
from pipeline.files import layout
from pipeline.metrics.candidates import MIB
from pipeline.metrics.intervals import LEVEL_PERCENT
from pipeline.tools.results import Metrics, listed_schemes, params_of_project, read_metrics, scored_on
from pipeline.tools.tables import text_table

_COLUMNS = ("scheme", "accuracy", "by take", "size", "latency p50")
_HEAD_COLUMNS = ("head", "scheme", "accuracy", "by take")
_MAX_NAME = 10  # letters of a scheme's or head's name that the table has room for
_TEST = ("num_test_frames", "num_test_takes")


@dataclass(frozen=True)
class Figures:
    """What counts about a model."""

    accuracy: float
    take_accuracy: float
    size_bytes: int
    latency_ms_p50: float

    @classmethod
    def of(cls, metrics: Metrics) -> "Figures":
        """Take them from a file of metrics/."""
        same = {key: metrics[key] for key in ("accuracy", "take_accuracy", "size_bytes")}
        return cls(**same, latency_ms_p50=metrics["latency_ms"]["p50"])

    def minus(self, other: "Figures") -> dict[str, float]:
        """Return by how much each is more than another's."""
        return {key: value - getattr(other, key) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Line:
    """One scheme.

    Attributes:
        scheme: Its name.
        figures: What it has now.
        base: What it is compared with; None if that has no such scheme.
        interval: Between what lies the difference in accuracy (see `metrics.intervals`), if that is known.
    """

    scheme: str
    figures: Figures
    base: Figures | None
    interval: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as what can be written as JSON; differences are what it has now minus what it is compared with."""
        difference = self.figures.minus(self.base) if self.base else None
        return asdict(self.figures) | {"difference": difference, "accuracy_difference_interval": self.interval}


@dataclass(frozen=True)
class HeadLine:
    """A further head of one scheme.

    Attributes:
        head: Its name.
        scheme: Whose it is.
        accuracies: By frame and by take, what it has now.
        base: The same of what it is compared with; None if that has no such head.
        interval: See `Line`.
    """

    head: str
    scheme: str
    accuracies: dict[str, float]
    base: dict[str, float] | None
    interval: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as `Line.to_json` does."""
        difference = {key: value - self.base[key] for key, value in self.accuracies.items()} if self.base else None
        return self.accuracies | {"difference": difference, "accuracy_difference_interval": self.interval}


@dataclass(frozen=True)
class Comparison:
    """Schemes and what they are compared with.

    Attributes:
        against: A scheme, or a revision.
        lines: Of the schemes in params.yaml, in its order.
        notes: What must be known to judge it.
        heads: Of the further heads, head by head.
    """

    against: str
    lines: list[Line]
    notes: list[str]
    heads: list[HeadLine]

    def to_json(self) -> dict[str, Any]:
        """Return it as what can be written as JSON."""
        schemes = {line.scheme: line.to_json() for line in self.lines}
        heads = {line.head: dict[str, Any]() for line in self.heads}
        for line in self.heads:
            heads[line.head][line.scheme] = line.to_json()
        return {"against": self.against, "schemes": schemes, "notes": self.notes, "heads": heads}


def with_float32() -> Comparison:
    """Compare every other scheme with float32, on the same frames.

    Raises:
        PipelineError: If there are no metrics.
    """
    metrics = _metrics_now()
    reference = read_metrics(layout.metrics(layout.REFERENCE_SCHEME))
    others = [scheme for scheme in metrics if scheme != layout.REFERENCE_SCHEME]
    lines = [
        Line(scheme, Figures.of(one), Figures.of(reference), _gained(one))
        if scheme in others
        else Line(scheme, Figures.of(one), None)
        for scheme, one in metrics.items()
    ]
    heads = _heads(metrics, dict.fromkeys(others, reference), have_intervals=True)
    notes = [f"{scored_on(reference)}.", f"In brackets: the difference from {layout.REFERENCE_SCHEME}."]
    if any(line.interval for line in lines) or any(line.interval for line in heads):
        notes.append(f"interval: where the accuracy's difference lies with {LEVEL_PERCENT}%, were other takes filmed.")
    return Comparison(layout.REFERENCE_SCHEME, lines, notes, heads)


def with_revision(revision: str) -> Comparison:
    """Compare every scheme with itself at another revision.

    Args:
        revision: Whatever Git takes for a commit, or the name of an experiment of DVC.

    Raises:
        PipelineError: If there are no metrics here, or none there.
    """
    now, before = _metrics_now(), metrics_at(revision)
    if not set(now) & set(before):
        raise ConfigurationError(
            found=f"no metrics of {', '.join(now)} at {revision}",
            expected="a revision at which results were committed",
            remedy=f"git log --oneline {layout.DEPLOYED_METRICS} lists some",
        )
    lines = [
        Line(scheme, Figures.of(one), Figures.of(before[scheme]) if scheme in before else None)
        for scheme, one in now.items()
    ]
    return Comparison(revision, lines, _notes(revision, now, before), _heads(now, before, have_intervals=False))


def text_of(comparison: Comparison) -> str:
    """Return the comparison for a terminal."""
    table = _table(_COLUMNS, [(_cells(line), line.interval) for line in comparison.lines], place=2)
    heads = [(_cells_of_head(line), line.interval) for line in comparison.heads]
    further = [_table(_HEAD_COLUMNS, heads, place=3), ""] if heads else []
    return "\n".join(["", table, "", *further, *comparison.notes, ""])


def _table(names: Sequence[str], lines: Sequence[tuple[list[str], tuple[float, float] | None]], *, place: int) -> str:
    """Return a table; intervals get a column at a place if there are any."""
    columns, rows = list(names), [cells for cells, _ in lines]
    if any(interval for _, interval in lines):
        columns.insert(place, "interval")
        for row, (_, interval) in zip(rows, lines, strict=True):
            row.insert(place, "{:+.3f} to {:+.3f}".format(*interval) if interval else "")
    return text_table(columns, rows)


def _metrics_now() -> dict[str, Metrics]:
    return {scheme: read_metrics(layout.metrics(scheme)) for scheme in listed_schemes(params_of_project())}


def _gained(metrics: Metrics) -> tuple[float, float] | None:
    """Return between what lies the difference in accuracy from float32, of a scheme or of one of its heads."""
    drop = metrics["intervals"].get("accuracy_drop")
    return (-drop["high"], -drop["low"]) if drop else None


def _heads(now: Mapping[str, Metrics], base: Mapping[str, Metrics], *, have_intervals: bool) -> list[HeadLine]:
    """Return a line for each further head and scheme.

    Args:
        now: Metrics by scheme.
        base: What they are compared with, likewise; may lack schemes and heads.
        have_intervals: Whether that is float32.
    """
    lines = []
    for head in dict.fromkeys(head for metrics in now.values() for head in metrics.get("heads", {})):
        for scheme, metrics in now.items():
            one = metrics.get("heads", {}).get(head)
            other = base.get(scheme, {}).get("heads", {}).get(head)
            if one:
                interval = _gained(one) if have_intervals and other else None
                lines.append(HeadLine(head, scheme, _accuracies(one), other and _accuracies(other), interval))
    return lines


def _accuracies(figures: Mapping[str, Any]) -> dict[str, float]:
    return {key: figures[key] for key in ("accuracy", "take_accuracy")}


def _notes(revision: str, now: Mapping[str, Metrics], before: Mapping[str, Metrics]) -> list[str]:
    scheme = next(iter(set(now) & set(before)))
    tests = [tuple(metrics[scheme][key] for key in _TEST) for metrics in (before, now)]
    notes = [f"In brackets: the difference from {revision}."]
    if tests[0] != tests[1]:
        (frames, takes), (frames_now, takes_now) = tests
        notes.append(f"Scored on other takes: {frames} frames of {takes} takes then, {frames_now} of {takes_now} now.")
    if backbones := {one[scheme]["backbone"] for one in (before, now)} - {now[scheme]["backbone"]}:
        notes.append(f"Another backbone: {backbones.pop()} then, {now[scheme]['backbone']} now.")
    if gone := [name for name in before if name not in now and name != layout.DEPLOYED_METRICS.stem]:
        notes.append(f"There and not here: {', '.join(gone)}.")
    return notes


def _cells(line: Line) -> list[str]:
    now, base = line.figures, line.base
    if base is None:
        cells = ["", "", "", ""]
    else:
        cells = [f" ({value:+.3f})" for value in (now.accuracy - base.accuracy, now.take_accuracy - base.take_accuracy)]
        ratios = (now.size_bytes / base.size_bytes, now.latency_ms_p50 / base.latency_ms_p50)
        cells += [f" ({ratio - 1:+.0%})" for ratio in ratios]
    shown = [f"{now.accuracy:.3f}", f"{now.take_accuracy:.3f}"]
    shown += [f"{now.size_bytes / MIB:.2f} MiB", f"{now.latency_ms_p50:.1f} ms"]
    return [_short(line.scheme), *(f"{value}{difference}" for value, difference in zip(shown, cells, strict=True))]


def _cells_of_head(line: HeadLine) -> list[str]:
    cells = [
        f"{value:.3f}" + (f" ({value - line.base[key]:+.3f})" if line.base else "")
        for key, value in line.accuracies.items()
    ]
    return [_short(line.head), _short(line.scheme), *cells]


def _short(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
