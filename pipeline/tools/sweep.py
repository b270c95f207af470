"""Compares architectures: `viewfinder sweep`, or `make sweep`.

Reads conf/sweep.yaml, runs each architecture at each resolution as an experiment of DVC (its schemes are one run), and
writes plots/sweep/{table.csv,tradeoff.png}. This folder stays as it is. An experiment that was run before on the same
data, code and settings is not run again; one that was interrupted goes on where it was, since finished stages and takes
are kept.
"""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.check import check
from pipeline.choosing.architectures import input_pixels_of, names_of, num_multiply_adds
from pipeline.choosing.experiments import Experiment, file_of, metrics_of, run
from pipeline.choosing.inputs import fingerprint, refuse_what_git_does_not_know
from pipeline.choosing.latency import latencies_ms
from pipeline.choosing.reward import Choice, best_within, choose, fitting, reward, sentence
from pipeline.config.application import answer_ctrl_c_by_an_exception, print_error
from pipeline.config.choose import Exponents, Targets, exponents_of_project, targets_of_project
from pipeline.config.gate import MicroLimits
from pipeline.config.sweep import SweepConfig, sweep_config
from pipeline.errors import PipelineError, combine
from pipeline.files import layout, write_bytes, write_text
from pipeline.keys.key import hash_of
from pipeline.litert.micro_costs import micro_costs
from pipeline.metrics.candidates import MIB, Candidate, as_edit, front
from pipeline.pictures.tradeoff import tradeoff
from pipeline.tools.micro_table import micro_cells, micro_columns, told_micro
from pipeline.tools.results import gate_of, params_of_project
from pipeline.tools.tables import text_table

FOLDER = Path("plots/sweep")
LATENCIES = Path(".cache/sweep/latency_ms.json")

# All schemes are scored before it. Not the stage before it: DVC looks for the pictures of an experiment when it keeps
# it, and fails where they are named in dvc.lock and not in the cache, as in a fresh clone.
TARGET = "report"

_NUM_DIGITS = 8  # of the fingerprint in an experiment's name
_LATENCY = (
    "latency: median of one picture in LiteRT on {num_threads} thread(s) of this machine, not of a phone; one sitting"
)


@dataclass(frozen=True)
class Row:
    """One model of the table. Units are in the names; accuracies are shares of test frames and takes, 0..1.

    All is from metrics/ of its experiment, but for the latency (see pipeline.choosing.latency) and for what the model
    takes on a microcontroller, which is measured if `gate` has a limit on it.
    """

    backbone: str
    input_pixels: int
    scheme: str
    accuracy: float
    standard_error: float
    take_accuracy: float
    accuracy_drop: float
    size_bytes: int
    latency_ms_p50: float
    peak_memory_bytes: int
    num_multiply_adds: int | None
    are_multiply_adds_published: bool
    num_threads: int
    num_test_frames: int
    num_test_takes: int
    experiment: str
    flash_bytes: int | None
    arena_bytes: int | None


def sweep(config: SweepConfig, *, as_json: bool = False) -> None:
    """Run what is missing, then write and print the table, the picture and the choice.

    Args:
        config: What to try.
        as_json: Print the table's rows as JSON, and nothing else.

    Raises:
        PipelineError: If an architecture is unknown, or all of them fail. If some fail, the others are told first.
    """
    refuse_what_git_does_not_know()
    params = params_of_project()
    tried = names_of(config.backbones, config.input_pixels)
    check_all(tried, config.quantization, params)
    experiments = experiments_of(tried, config.quantization, params)
    errors = run_missing(list(experiments.values()))
    limits = gate_of(params).micro
    rows = rows_of(experiments, config.quantization, limits)
    if rows:
        tell(rows, limits, as_json=as_json)
    if errors:
        raise combine(errors, "experiments")


def check_all(backbones: Sequence[str], schemes: Sequence[str], params: dict[str, Any]) -> None:
    """Check what is to be tried as the stage `check` would, before anything runs.

    Args:
        backbones: Names that mean something (`names_of` refuses others); they differ in nothing else that is checked.
        schemes: To make of each.
        params: What params.yaml holds.

    Raises:
        PipelineError: If params.yaml, or a file of conf/ for one of the schemes, says what no stage understands.
    """
    chosen = {"backbone": backbones[0], "quantization": list(schemes), "deploy": schemes[0]}
    check(params | chosen)


def experiments_of(backbones: Sequence[str], schemes: Sequence[str], params: dict[str, Any]) -> dict[str, Experiment]:
    """Return an experiment for each architecture. Its name holds the hash of all that its metrics depend on."""
    chosen: dict[str, object] = {"quantization": list(schemes)} if list(schemes) != params["quantization"] else {}
    if params["deploy"] not in schemes:
        chosen["deploy"] = layout.REFERENCE_SCHEME
    digits = hash_of({"inputs": fingerprint(), "quantization": list(schemes)})[:_NUM_DIGITS]
    return {name: Experiment(f"{name}-{digits}", {"backbone": name} | chosen, TARGET) for name in backbones}


def run_missing(experiments: Sequence[Experiment]) -> list[PipelineError]:
    """Run the experiments that there are no metrics of, each whether or not others fail; return what failed."""
    done = metrics_of([experiment.name for experiment in experiments])
    errors = []
    for experiment in experiments:
        if experiment.name in done:
            sys.stderr.write(f"\n# there already: {shlex.join(experiment.command())}\n")
            continue
        try:
            run(experiment)
        except PipelineError as error:
            print_error("sweep", error)
            errors.append(error)
    return errors


def rows_of(experiments: Mapping[str, Experiment], schemes: Sequence[str], limits: MicroLimits) -> list[Row]:
    """Return a row for each architecture and scheme that there are metrics of, the most accurate first."""
    metrics = metrics_of([experiment.name for experiment in experiments.values()])
    found = [
        (backbone, experiment.name, metrics[experiment.name][scheme])
        for backbone, experiment in experiments.items()
        for scheme in schemes
        if scheme in metrics.get(experiment.name, {})
    ]
    models = {
        f"{name} {one['scheme']}": partial(file_of, name, str(layout.model(one["scheme"]))) for _, name, one in found
    }
    measured = latencies_ms(models, LATENCIES)
    costs = [
        micro_costs(read(), one["scheme"], limits) if limits else {}
        for read, (_, _, one) in zip(models.values(), found, strict=True)
    ]
    rows = [
        _row(*one, latency_ms=latency, micro=micro)
        for one, latency, micro in zip(found, measured.values(), costs, strict=True)
    ]
    return sorted(rows, key=lambda row: (-row.accuracy, row.latency_ms_p50))


def _row(
    backbone: str, experiment: str, metrics: Mapping[str, Any], *, latency_ms: float, micro: Mapping[str, int]
) -> Row:
    multiply_adds, is_published = num_multiply_adds(backbone) or (None, False)
    same = ("accuracy", "standard_error", "take_accuracy", "accuracy_drop", "size_bytes", "peak_memory_bytes")
    counts = ("num_threads", "num_test_frames", "num_test_takes")
    return Row(
        backbone=backbone,
        input_pixels=input_pixels_of(backbone),
        scheme=metrics["scheme"],
        latency_ms_p50=latency_ms,
        num_multiply_adds=multiply_adds,
        are_multiply_adds_published=is_published,
        experiment=experiment,
        flash_bytes=micro.get("flash_bytes"),
        arena_bytes=micro.get("arena_bytes"),
        **{key: metrics[key] for key in (*same, *counts)},
    )


def candidate_of(row: Row) -> Candidate:
    """Return a row as something that can be chosen."""
    name = f"{row.backbone} {row.scheme}"
    return Candidate(
        name,
        row.accuracy,
        row.latency_ms_p50,
        row.size_bytes,
        {"backbone": row.backbone, "deploy": row.scheme},
        row.standard_error,
        _micro_costs_of(row),
    )


def _micro_costs_of(row: Row) -> dict[str, int]:
    costs = {"flash_bytes": row.flash_bytes, "arena_bytes": row.arena_bytes}
    return {name: cost for name, cost in costs.items() if cost is not None}


def tell(rows: Sequence[Row], limits: MicroLimits, *, as_json: bool) -> None:
    """Write table and picture, print the table, as JSON or with the choice.

    Raises:
        LimitError: If no model fits into the microcontroller that there are limits of; the table is written first.
    """
    targets, exponents = targets_of_project(), exponents_of_project()
    candidates = [candidate_of(row) for row in rows]
    on_front = front([one for one in candidates if limits.keep(one.micro_costs)])
    rewards = [reward(one, targets, exponents) for one in candidates]
    table = pd.DataFrame([asdict(row) for row in rows])
    table = table.assign(is_on_front=[one in on_front for one in candidates], reward=rewards)
    write_text(FOLDER / "table.csv", table.to_csv(index=False, lineterminator="\n"))
    fit = fitting(candidates, limits, f"{FOLDER}/table.csv")
    choice = choose(fit, targets, exponents)
    picture = tradeoff(
        candidates,
        chosen=choice.candidate,
        chosen_is="chosen",
        targets=targets,
        title="What each architecture gives and costs",
        accuracy_label=f"accuracy on {rows[0].num_test_frames:,} frames of takes that were not trained on, %",
        num_threads=rows[0].num_threads,
    )
    write_bytes(FOLDER / "tradeoff.png", picture)
    if as_json:
        sys.stdout.write(table.to_json(orient="records", force_ascii=False, indent=2) + "\n")
    else:
        sys.stdout.write(summary(rows, choice, targets, exponents, limits))


def summary(rows: Sequence[Row], choice: Choice, targets: Targets, exponents: Exponents, limits: MicroLimits) -> str:
    """Return the table as text, the best under each budget, and the choice with what makes it real."""
    columns = ["backbone", "pixels", "scheme", "accuracy", "by take", "drop", "size", "latency p50", "memory"]
    columns += ["multiply-adds", *micro_columns(limits), "reward"]
    candidates = [candidate_of(row) for row in rows]
    fit = [one for one in candidates if limits.keep(one.micro_costs)]
    on_front = front(fit)
    cells = [
        [
            *_cells(row),
            *micro_cells(one.micro_costs, limits),
            f"{reward(one, targets, exponents):.3f}",
            "*" if one in on_front else "",
        ]
        for row, one in zip(rows, candidates, strict=True)
    ]
    return "\n".join(
        [
            "",
            f"{len(rows)} models, scored on {rows[0].num_test_frames} frames of {rows[0].num_test_takes} takes that "
            "were not trained on",
            _LATENCY.format(num_threads=rows[0].num_threads),
            "",
            text_table([*columns, "front"], cells),
            "",
            "* on the Pareto front: no other is at least as good in accuracy, latency and size and better in one",
            *(["~ scaled by the picture's area from the published number"] if _any_scaled(rows) else []),
            *([told_micro(len(fit), len(rows), limits)] if limits else []),
            *(f"Best with {text}" for text in budgets(fit, targets)),
            "",
            "Chosen: " + sentence(choice, targets),
            *([] if targets else ["  (set choose.latency_ms or choose.size_bytes in params.yaml to weigh costs, too)"]),
            f"To use it: {as_edit(choice.candidate.settings)}, then `dvc repro` (all that it needs is cached)",
            f"Table and picture: {FOLDER}/table.csv, {FOLDER}/tradeoff.png; all metrics: dvc exp show",
            "",
        ]
    )


def _cells(row: Row) -> list[str]:
    about = "" if row.are_multiply_adds_published else "~"
    return [
        row.backbone,
        str(row.input_pixels),
        row.scheme,
        f"{row.accuracy:.3f} ± {row.standard_error:.3f}",
        f"{row.take_accuracy:.3f}",
        f"{row.accuracy_drop:+.3f}",
        f"{row.size_bytes / MIB:.2f} MiB",
        f"{row.latency_ms_p50:.1f} ms",
        f"{row.peak_memory_bytes / MIB:.1f} MiB",
        "-" if row.num_multiply_adds is None else f"{about}{row.num_multiply_adds / 1e6:,.0f} M",
    ]


def _any_scaled(rows: Sequence[Row]) -> bool:
    return any(row.num_multiply_adds is not None and not row.are_multiply_adds_published for row in rows)


def budgets(candidates: Sequence[Candidate], targets: Targets) -> list[str]:
    """Tell which candidate is the most accurate under each target alone, and under both."""
    each = {
        f"at most {targets.latency_ms} ms": Targets(latency_ms=targets.latency_ms),
        f"at most {(targets.size_bytes or 0) / MIB:.2f} MiB": Targets(size_bytes=targets.size_bytes),
    }
    alone = {text: target for text, target in each.items() if target}
    wanted = alone | ({"both": targets} if len(alone) == 2 else {})
    found = {text: best_within(candidates, target) for text, target in wanted.items()}
    return [
        f"{text}: {f'{best.name} (accuracy {best.accuracy:.3f})' if best else 'none'}" for text, best in found.items()
    ]


def run_sweep(*, as_json: bool) -> None:
    """Run the sweep that conf/sweep.yaml asks for; Ctrl-C leaves what is finished, and says so.

    Raises:
        PipelineError: See `sweep`.
    """
    answer_ctrl_c_by_an_exception()
    try:
        sweep(sweep_config(), as_json=as_json)
    except KeyboardInterrupt:
        sys.stderr.write("\nsweep: what is finished is kept, `make sweep` goes on from there\n")
        raise
