"""Tells where the deployed model lies, how good each scheme is, and what to type next: `python -m pipeline`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.choosing.candidates import as_edit, candidate_of
from pipeline.choosing.reward import choose, sentence
from pipeline.config.choose import exponents_of_project, targets_of_project
from pipeline.errors import PipelineError
from pipeline.files import layout

_COLUMNS = ("scheme", "accuracy", "by take", "drop", "agrees", "size", "latency p50", "p90")


def summary(schemes: Sequence[str]) -> str:
    """Return the text: a row a scheme, the deployed one marked.

    Args:
        schemes: In the order to show.

    Raises:
        PipelineError: If there are no metrics yet.
    """
    deployed = _read(layout.DEPLOYED_METRICS)
    rows = [_row(_read(layout.metrics(scheme)), deployed["scheme"]) for scheme in schemes]
    widths = [max(len(row[i]) for row in [_COLUMNS, *rows]) for i in range(len(_COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [_COLUMNS, *rows]]
    return "\n".join(
        [
            "",
            f"{deployed['backbone']}, scored on {deployed['num_test_frames']} frames of "
            f"{deployed['num_test_takes']} takes that were not trained on; "
            f"latency on {deployed['num_threads']} thread(s) of this machine",
            "",
            *(f"  {line.rstrip()}" for line in lines),
            "",
            f"Deployed: {deployed['scheme']}, in {layout.DEPLOYED}/ (model.tflite, labels.txt, manifest.json, golden/)",
            *_pictures(),
            *_choice(schemes),
            "",
            "Next:",
            *_next_steps(deployed["scheme"], schemes),
            "",
        ]
    )


def _row(metrics: dict[str, Any], deployed: str) -> tuple[str, ...]:
    latency = metrics["latency_ms"]
    return (
        metrics["scheme"] + (" *" if metrics["scheme"] == deployed else ""),
        f"{metrics['accuracy']:.3f}",
        f"{metrics['take_accuracy']:.3f}",
        f"{metrics['accuracy_drop']:+.3f}",
        f"{metrics['agreement_with_float32']:.3f}",
        f"{metrics['size_bytes'] / 2**20:.2f} MiB",
        f"{latency['p50']:.1f} ms",
        f"{latency['p90']:.1f} ms",
    )


def _choice(schemes: Sequence[str]) -> list[str]:
    """Return lines that tell which scheme the targets in `choose` speak for, if there are any."""
    targets = targets_of_project()
    if not targets:
        return []
    candidates = [candidate_of(_read(layout.metrics(scheme))) for scheme in schemes]
    choice = choose(candidates, targets, exponents_of_project())
    return [f"Chosen:   {sentence(choice, targets)}", f"To use it: {as_edit(choice.candidate.settings)}"]


def _pictures() -> list[str]:
    """Return lines that tell which pictures there are to look at."""
    names = sorted(path.stem.replace("_", " ") for path in layout.PICTURES.glob("*.png"))
    return [f"Pictures: in {layout.PICTURES}/ ({', '.join(names)})"] if names else []


def _next_steps(deployed: str, schemes: Sequence[str]) -> list[str]:
    """Return lines of what to type, each something that works as it stands."""
    other = next((scheme for scheme in reversed(schemes) if scheme != deployed), deployed)
    return [
        "  source .venv/bin/activate            so that `dvc` is the project's own",
        f"  edit `deploy: {other}` in params.yaml, then: dvc repro && dvc metrics diff",
        "  dvc metrics show                     every scheme, every metric",
        "  dvc plots show                       training curves and all pictures as a page",
        "  put your videos into data/videos/<label>/, remove the sample labels, then: dvc repro",
    ]


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise PipelineError(
            found=f"{path} is missing or damaged", expected="the metrics of a finished run", remedy="run `make repro`"
        ) from error
    return found


def main() -> None:
    """Print the summary of the last run."""
    try:
        print(summary(yaml.safe_load(Path("params.yaml").read_text())["quantization"]))
    except PipelineError as error:
        sys.stderr.write(f"\nsummary: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
