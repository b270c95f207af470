"""The table of a search: what each trial gives and costs, the choice, and how to make it real."""

import shlex
import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial

from pipeline.choosing.experiments import set_param
from pipeline.choosing.reward import choose, fitting, reward, sentence
from pipeline.choosing.workshop import Outcome
from pipeline.config.choose import exponents_of_project, targets_of_project
from pipeline.config.gate import MicroLimits
from pipeline.errors import InputError
from pipeline.files import write_bytes, write_text
from pipeline.metrics.candidates import MIB, Candidate, as_edit, front
from pipeline.pictures.tradeoff import tradeoff
from pipeline.tools.micro_table import micro_cells, micro_columns, told_micro
from pipeline.tools.results import gate_of
from pipeline.tools.search_study import OUTCOME, SECONDS, SETTINGS, STUDIES, Settings, failed, finished, model_of
from pipeline.tools.sweep_table import accuracy_name, budgets, others_to_choose_by
from pipeline.tools.tables import text_table

FOLDER = Path("plots/search")

_MAX_ROWS = 12  # of the table on the terminal


@dataclass(frozen=True)
class Costs:
    """What models cost, by backbone and scheme.

    Attributes:
        latencies_ms: From one sitting; those that trials saw come from different times.
        micro: What each takes on a microcontroller, as far as there are limits on it.
    """

    latencies_ms: Mapping[tuple[str, str], float]
    micro: Mapping[tuple[str, str], Mapping[str, int]]


def tell(
    study: optuna.Study,
    params: Mapping[str, Any],
    costs: Costs,
    num_takes: int,
    head: str | None = None,
) -> None:
    """Write table and picture, print the best trials and the choice.

    Args:
        study: With its trials.
        params: What params.yaml holds.
        costs: Of all models that were tried.
        num_takes: Takes that the trials were compared on, each held out once.
        head: By which they were; None for the first.

    Raises:
        InputError: If no trial has finished.
        LimitError: If no model fits into the microcontroller that `gate` has limits of; the table is written first.
    """
    trials = finished(study)
    if not trials:
        raise InputError(
            found=f"none of {len(failed(study))} trials gave a result (see above)",
            expected="at least one",
            remedy=f"mend what the messages say, and remove {STUDIES} to begin anew",
        )
    targets, exponents, accuracy = targets_of_project(), exponents_of_project(), accuracy_name(head)
    limits = gate_of(params).micro
    candidates = [_candidate(trial, params, costs) for trial in trials]
    table = _table(trials, candidates, [reward(one, targets, exponents) for one in candidates], limits)
    write_text(FOLDER / "table.csv", table.to_csv(index=False, lineterminator="\n"))
    fit = fitting(candidates, limits, f"{FOLDER}/table.csv")
    choice = choose(fit, targets, exponents)
    picture = tradeoff(
        candidates,
        chosen=choice.candidate,
        chosen_is="chosen",
        targets=targets,
        title=f"What {len(trials)} trials give and cost",
        accuracy_label=f"cross-validated {accuracy}, %",
        num_threads=1,
    )
    write_bytes(FOLDER / "tradeoff.png", picture)
    lines = [
        "",
        f"{len(trials)} trials, {len(failed(study))} failed; {accuracy} by cross-validation over the {num_takes} takes "
        "that are not for testing",
        "latency: median of one picture in LiteRT on this machine, not of a phone; one sitting",
        "",
        _text(table.head(_MAX_ROWS), limits),
        "",
        *([told_micro(len(fit), len(candidates), limits)] if limits else []),
        *(f"Best with {text}" for text in budgets(fit, targets, accuracy_name=accuracy)),
        "Chosen: " + sentence(choice, targets, accuracy_name=accuracy),
        *([others_to_choose_by(params["heads"])] if params.get("heads") and head is None else []),
        "The best of many looks better than it is, the more so the fewer takes: the run that follows tells.",
        *_to_make_real(choice.candidate.settings, params),
        f"Table and picture: {FOLDER}/table.csv, {FOLDER}/tradeoff.png; study: {STUDIES} ({study.study_name})",
    ]
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _table(
    trials: Sequence[FrozenTrial], candidates: Sequence[Candidate], rewards: Sequence[float], limits: MicroLimits
) -> pd.DataFrame:
    """Return a row a trial, the highest reward first."""
    on_front = front([one for one in candidates if limits.keep(one.micro_costs)])
    rows = [
        {"trial": trial.number + 1, **trial.user_attrs[SETTINGS], **trial.user_attrs[OUTCOME]}
        | {"latency_ms": one.latency_ms, "is_on_front": one in on_front, "reward": value}
        | {cost: one.micro_costs.get(cost) for cost in limits.by_cost()}
        | {"seconds": trial.user_attrs[SECONDS]}
        for trial, one, value in zip(trials, candidates, rewards, strict=True)
    ]
    table = pd.DataFrame(rows).rename(columns={"latency_ms": "latency_ms_p50"})
    return table.sort_values(["reward", "latency_ms_p50"], ascending=[False, True], kind="stable")


def _to_make_real(settings: Mapping[str, object], params: Mapping[str, Any]) -> list[str]:
    """Return lines that tell how to use the chosen settings, or that params.yaml has them already."""
    if {key: _value_of(params, key) for key in settings} == dict(settings):
        return ["That is what params.yaml says already: nothing to edit; `dvc repro` has its figures on them."]
    return [
        "To make it real, and to have its figures on them: " + as_edit(settings),
        "  then `dvc repro`; or, without an edit:",
        f"  {shlex.join(['dvc', 'exp', 'run', *set_param(settings)])}",
    ]


def _value_of(params: Mapping[str, Any], key: str) -> object:
    """Return what params.yaml has under a key such as `training.steps`."""
    section, _, name = key.rpartition(".")
    return params[section][name] if section else params[key]


def _candidate(trial: FrozenTrial, params: Mapping[str, Any], costs: Costs) -> Candidate:
    settings, found = Settings(**trial.user_attrs[SETTINGS]), Outcome(**trial.user_attrs[OUTCOME])
    name = f"{settings.backbone} {settings.scheme} (trial {trial.number + 1})"
    return Candidate(
        name,
        found.accuracy,
        costs.latencies_ms[model_of(trial)],
        found.size_bytes,
        settings.of_params(params),
        found.standard_error,
        costs.micro.get(model_of(trial), {}),
    )


def _text(table: pd.DataFrame, limits: MicroLimits) -> str:
    columns = ["trial", "backbone", "scheme", "accuracy", "size", "latency p50"]
    columns += [*micro_columns(limits), "reward", "front"]
    return text_table(columns, [_cells(row, limits) for row in table.to_dict("records")])


def _cells(row: Mapping[Hashable, Any], limits: MicroLimits) -> list[str]:
    known = {cost: int(row[cost]) for cost in limits.by_cost() if not pd.isna(row[cost])}
    return [
        str(row["trial"]),
        row["backbone"],
        row["scheme"],
        f"{row['accuracy']:.3f} ± {row['standard_error']:.3f}",
        f"{row['size_bytes'] / MIB:.2f} MiB",
        f"{row['latency_ms_p50']:.1f} ms",
        *micro_cells(known, limits),
        f"{row['reward']:.3f}",
        "*" if row["is_on_front"] else "",
    ]
