"""Writes one page with all that the last run gave, plots/report.html, which opens without a network."""

import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.plain import PARAMS
from pipeline.files import layout, write_text
from pipeline.metrics.candidates import MIB
from pipeline.metrics.predictions import read_scored
from pipeline.takes.splits import Take, read_takes
from pipeline.tools.compare import text_of as comparison_text
from pipeline.tools.compare import with_float32
from pipeline.tools.page import folded, listing, page, paragraph, picture, section, table
from pipeline.tools.summary import HEAD_COLUMNS, Summary, summarized, what_counts

PAGE = layout.PICTURES.parent / "report.html"

_TITLES = {
    "confusion": "What it takes for what",
    "recalls": "How much of each label is recognized",
    "learning_curve": "Whether more takes would help",
    "training": "How the heads were trained",
    "finetuning": "How the backbone was tuned",
    "reliability": "How sure it is, and how often right",
    "unknown": "What it says to what it does not know",
    "tradeoff": "What each scheme gives and costs",
    "worst_errors": "The worst errors",
    "lost_to_quantization": "What quantization lost",
}
_INSPECTED = {
    "mislabelled": "Takes that could bear another label",
    "copy": "Takes that show the same",
    "dull": "Frames that teach nothing",
    "odd": "Takes that are not like the others of their label",
    "heat": "Where the model looks",
    "heat_errors": "What the model looks at where it errs",
}
_MAX_OPEN_ROWS = 30  # a longer table is folded


def report() -> Path:
    """Write the page and return where it is.

    Raises:
        PipelineError: If no run has finished yet.
    """
    summary = summarized()
    sections = [_results(summary), *_inspection(), *_pictures(), _takes(summary), _settings()]
    write_text(PAGE, page(f"Viewfinder: {', '.join(summary.labels)}", sections))
    return PAGE


def _results(summary: Summary) -> str:
    columns = ("scheme", "accuracy", "95% interval", "by take", "test takes", "size", "latency p50")
    rows = [
        (
            one["scheme"],
            f"{one['accuracy']:.3f}",
            "{low:.3f} to {high:.3f}".format(**one["intervals"]["accuracy"]) if one["intervals"] else "",
            f"{one['take_accuracy']:.3f}",
            f"{one['test']['accuracy']:.3f}",
            f"{one['size_bytes'] / MIB:.2f} MiB",
            f"{one['latency_ms']['p50']:.1f} ms",
        )
        for one in summary.schemes
    ]
    names = [row[0] for row in rows]
    marked = names.index(summary.deployed) if summary.deployed in names else None
    parts = [*map(paragraph, what_counts(summary)), table(columns, rows, marked=marked)]
    parts += [table(HEAD_COLUMNS, summary.heads)] if summary.heads else []
    parts.append(paragraph(f"Deployed: {summary.deployed or 'nothing yet'}"))
    if summary.breaches:
        text = "\n".join([f"The gate refuses {summary.wanted}:", *summary.breaches])
        parts.append(paragraph(text, kind="warning"))
    if summary.choice:
        parts.append(paragraph(f"Chosen by the targets: {summary.choice['why']}"))
    return section("Results", *parts, folded("Differences from float32", listing(comparison_text(with_float32()))))


def _pictures() -> list[str]:
    """Return a section for each picture that the stage `report` drew."""
    paths = sorted(layout.PICTURES.glob("*.png"), key=lambda path: [*_TITLES, path.stem].index(path.stem))
    titles = {path: _TITLES.get(path.stem, path.stem.replace("_", " ")) for path in paths}
    return [section(title, picture(path.read_bytes(), title)) for path, title in titles.items()]


def _inspection() -> list[str]:
    """Return a section that tells what is wrong with the data and what to film next, if the stage `inspect` has run."""
    if not layout.INSPECTED.exists():
        return []
    found = json.loads(layout.INSPECTED.read_text(encoding="utf-8"))
    lines = [one["text"] for one in found["findings"]] + found["judged_by_their_border"]
    without = found["accuracy_without_copies"]
    if without is not None and without != found["accuracy"]:
        lines.append(f"Accuracy over all takes {found['accuracy']:.3f}, over those without a copy {without:.3f}")
    parts = [table(("worth a look",), [(line,) for line in lines]) if lines else paragraph("Nothing looks wrong.")]
    if not found["asked_heads"]:
        parts.append(paragraph("Whether labels are right nobody can tell: the backbone has learned from every take."))
    if found["film_next"]:
        parts.append(table(("film next, the greatest gain first",), [(line,) for line in found["film_next"]]))
    kinds = {"heat", "heat_errors", *(one["kind"] for one in found["findings"])}  # of others nothing was found
    shown = [layout.INSPECTION / f"{name}.png" for name in _INSPECTED if name in kinds]
    parts += [picture(path.read_bytes(), _INSPECTED[path.stem]) for path in shown if path.exists()]
    return [section("What is wrong with the data", *parts)]


def _takes(summary: Summary) -> str:
    """Return a section with each take, its part, and how many of its frames a head without it gets right."""
    scheme = summary.deployed or summary.wanted
    found = read_scored(scheme) if layout.crossval_predictions(scheme).exists() else None
    right = {} if found is None else found.groupby("take")["is_right"].mean().to_dict()
    takes = read_takes(layout.SPLITS)
    rows = [(take.label, take.name, _part(take), _share(right.get(take.full_name))) for take in takes]
    listed = table(("label", "take", "part", f"right ({scheme})"), rows)
    return section("Takes", _unless_long(rows, listed))


def _part(take: Take) -> str:
    if len(take.blocks) == 1:
        return take.blocks[0].part
    return ", ".join(f"{block.part} {block.start:.0%} to {block.end:.0%}" for block in take.blocks)


def _share(right: float | None) -> str:
    return "" if right is None else f"{right:.0%}"


def _settings() -> str:
    return section("Settings", listing(PARAMS.read_text(encoding="utf-8")))


def _unless_long(rows: Sequence[object], content: str) -> str:
    return content if len(rows) <= _MAX_OPEN_ROWS else folded(f"{len(rows)} takes", content)
