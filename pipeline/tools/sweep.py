"""Compares architectures: `viewfinder sweep`, or `make sweep`.

Reads conf/sweep.yaml, runs each architecture at each resolution as an experiment of DVC (its schemes are one run), and
writes plots/sweep/{table.csv,tradeoff.png}. This folder stays as it is. An experiment that was run before on the same
data, code and settings is not run again; one that was interrupted goes on where it was, since finished stages and takes
are kept.
"""

import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.check import check
from pipeline.choosing.architectures import input_pixels_of, names_of, num_multiply_adds
from pipeline.choosing.experiments import Experiment, file_of, metrics_of, run
from pipeline.choosing.inputs import fingerprint, refuse_what_git_does_not_know
from pipeline.choosing.latency import latencies_ms
from pipeline.choosing.reward import choose, fitting, reward
from pipeline.config.application import answer_ctrl_c_by_an_exception, print_error
from pipeline.config.choose import exponents_of_project, targets_of_project
from pipeline.config.gate import MicroLimits
from pipeline.config.sweep import SweepConfig, sweep_config
from pipeline.errors import PipelineError, combine
from pipeline.files import layout, write_bytes, write_text
from pipeline.keys.key import hash_of
from pipeline.litert.micro_costs import micro_costs
from pipeline.metrics.candidates import front
from pipeline.pictures.tradeoff import tradeoff
from pipeline.tools.results import asked_head, gate_of, params_of_project
from pipeline.tools.sweep_table import OF_HEADS, Row, accuracy_name, candidate_of, summary

FOLDER = Path("plots/sweep")
LATENCIES = Path(".cache/sweep/latency_ms.json")

# All schemes are scored before it. Not the stage before it: DVC looks for the pictures of an experiment when it keeps
# it, and fails where they are named in dvc.lock and not in the cache, as in a fresh clone.
TARGET = "report"

_NUM_DIGITS = 8  # of the fingerprint in an experiment's name


def sweep(config: SweepConfig, *, head: str | None = None, as_json: bool = False) -> None:
    """Run what is missing, then write and print the table, the picture and the choice.

    Args:
        config: What to try.
        head: Whose accuracy counts; None for the first head's.
        as_json: Print the table's rows as JSON, and nothing else.

    Raises:
        PipelineError: If an architecture or the head is unknown, or all architectures fail. If some fail, the others
            are told first.
    """
    refuse_what_git_does_not_know()
    params = params_of_project()
    head = asked_head(params, head)
    tried = names_of(config.backbones, config.input_pixels)
    check_all(tried, config.quantization, params)
    experiments = experiments_of(tried, config.quantization, params)
    errors = run_missing(list(experiments.values()))
    limits = gate_of(params).micro
    rows = rows_of(experiments, config.quantization, limits)
    if rows:
        tell(rows, limits, head, as_json=as_json)
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
    """Return a row for each architecture and scheme that there are metrics of, in their order."""
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
    return [
        _row(*one, latency_ms=latency, micro=micro)
        for one, latency, micro in zip(found, measured.values(), costs, strict=True)
    ]


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
        heads={head: {key: one[key] for key in OF_HEADS} for head, one in metrics.get("heads", {}).items()},
        micro_costs=micro,
        **{key: metrics[key] for key in (*same, *counts)},
    )


def tell(rows: Sequence[Row], limits: MicroLimits, head: str | None = None, *, as_json: bool) -> None:
    """Write table and picture, print the table, the most accurate first, as JSON or with the choice.

    Raises:
        LimitError: If no model fits into the microcontroller that there are limits of; the table is written first.
    """
    targets, exponents = targets_of_project(), exponents_of_project()
    rows = sorted(rows, key=lambda row: (-candidate_of(row, head).accuracy, row.latency_ms_p50))
    candidates = [candidate_of(row, head) for row in rows]
    on_front = front([one for one in candidates if limits.keep(one.micro_costs)])
    rewards = [reward(one, targets, exponents) for one in candidates]
    table = pd.DataFrame([row.to_columns() for row in rows])
    table = table.assign(is_on_front=[one in on_front for one in candidates], reward=rewards)
    write_text(FOLDER / "table.csv", table.to_csv(index=False, lineterminator="\n"))
    choice = choose(fitting(candidates, limits, f"{FOLDER}/table.csv"), targets, exponents)
    scored = rows[0].of(head)
    picture = tradeoff(
        candidates,
        chosen=choice.candidate,
        chosen_is="chosen",
        targets=targets,
        title="What each architecture gives and costs",
        accuracy_label=f"{accuracy_name(head)} on {scored['num_test_frames']:,} frames of takes not trained on, %",
        num_threads=rows[0].num_threads,
    )
    write_bytes(FOLDER / "tradeoff.png", picture)
    if as_json:
        sys.stdout.write(table.to_json(orient="records", force_ascii=False, indent=2) + "\n")
    else:
        sys.stdout.write(summary(rows, choice, targets, exponents, limits, head=head))
        where = f"{FOLDER}/table.csv, {FOLDER}/tradeoff.png"
        sys.stdout.write(f"Table and picture: {where}; all metrics: dvc exp show\n")


def run_sweep(head: str | None, *, as_json: bool) -> None:
    """Run the sweep that conf/sweep.yaml asks for; Ctrl-C leaves what is finished, and says so.

    Args:
        head: See `sweep`.
        as_json: See `sweep`.

    Raises:
        PipelineError: See `sweep`.
    """
    answer_ctrl_c_by_an_exception()
    try:
        sweep(sweep_config(), head=head, as_json=as_json)
    except KeyboardInterrupt:
        sys.stderr.write("\nsweep: what is finished is kept, `make sweep` goes on from there\n")
        raise
