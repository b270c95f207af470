"""Compares the schemes with float32, or with what they were at another revision of Git, in at most 100 columns."""

from collections.abc import Mapping
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
_MAX_NAME = 10  # letters of a scheme's name that the table has room for
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
class Comparison:
    """Schemes and what they are compared with.

    Attributes:
        against: A scheme, or a revision.
        lines: Of the schemes in params.yaml, in its order.
        notes: What must be known to judge it.
    """

    against: str
    lines: list[Line]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return it as what can be written as JSON."""
        schemes = {line.scheme: line.to_json() for line in self.lines}
        return {"against": self.against, "schemes": schemes, "notes": self.notes}


def with_float32() -> Comparison:
    """Compare every other scheme with float32, on the same frames.

    Raises:
        PipelineError: If there are no metrics.
    """
    metrics = _metrics_now()
    reference = read_metrics(layout.metrics(layout.REFERENCE_SCHEME))
    lines = [
        Line(scheme, Figures.of(one), *((None,) if scheme == layout.REFERENCE_SCHEME else _against(scheme, reference)))
        for scheme, one in metrics.items()
    ]
    notes = [f"{scored_on(reference)}.", f"In brackets: the difference from {layout.REFERENCE_SCHEME}."]
    if any(line.interval for line in lines):
        notes.append(f"interval: where the accuracy's difference lies with {LEVEL_PERCENT}%, were other takes filmed.")
    return Comparison(layout.REFERENCE_SCHEME, lines, notes)


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
    return Comparison(revision, lines, _notes(revision, now, before))


def text_of(comparison: Comparison) -> str:
    """Return the comparison for a terminal."""
    columns, rows = list(_COLUMNS), [_cells(line) for line in comparison.lines]
    if any(line.interval for line in comparison.lines):
        columns.insert(2, "interval")
        for row, line in zip(rows, comparison.lines, strict=True):
            row.insert(2, "{:+.3f} to {:+.3f}".format(*line.interval) if line.interval else "")
    return "\n".join(["", text_table(columns, rows), "", *comparison.notes, ""])


def _metrics_now() -> dict[str, Metrics]:
    return {scheme: read_metrics(layout.metrics(scheme)) for scheme in listed_schemes(params_of_project())}


def _against(scheme: str, reference: Metrics) -> tuple[Figures, tuple[float, float] | None]:
    """Return what a scheme is compared with, and the interval if both schemes' predictions are there."""
    drop = read_metrics(layout.metrics(scheme))["intervals"].get("accuracy_drop")
    return Figures.of(reference), (-drop["high"], -drop["low"]) if drop else None


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
    name = line.scheme if len(line.scheme) <= _MAX_NAME else f"{line.scheme[: _MAX_NAME - 1]}…"
    now, base = line.figures, line.base
    if base is None:
        cells = ["", "", "", ""]
    else:
        cells = [f" ({value:+.3f})" for value in (now.accuracy - base.accuracy, now.take_accuracy - base.take_accuracy)]
        ratios = (now.size_bytes / base.size_bytes, now.latency_ms_p50 / base.latency_ms_p50)
        cells += [f" ({ratio - 1:+.0%})" for ratio in ratios]
    shown = [f"{now.accuracy:.3f}", f"{now.take_accuracy:.3f}"]
    shown += [f"{now.size_bytes / MIB:.2f} MiB", f"{now.latency_ms_p50:.1f} ms"]
    return [name, *(f"{value}{difference}" for value, difference in zip(shown, cells, strict=True))]
