"""Searches architectures, resolutions and schemes: `viewfinder search`, or `make search`.

Reads conf/search.yaml and data/frames, data/augmented (which `dvc repro augment` brings up to date first); writes
plots/search/{table.csv,tradeoff.png} and the study, .cache/search/study.sqlite3. A study goes on where it was. Trials
are compared by cross-validation over the takes that are not for testing: the test takes are left for the figure that is
reported in the end. What a head is trained with, cross-validation chooses inside each trial.
"""

import fcntl
import os
import random
import shlex
import subprocess
import sys
import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pyarrow.parquet as pq
from optuna.trial import FrozenTrial, Trial, TrialState

from pipeline.choosing.architectures import names_of
from pipeline.choosing.duration import Past, estimated
from pipeline.choosing.experiments import set_param
from pipeline.choosing.inputs import fingerprint
from pipeline.choosing.reward import choose, fitting, reward, sentence
from pipeline.choosing.workshop import Outcome, Workshop
from pipeline.config.application import answer_ctrl_c_by_an_exception
from pipeline.config.choose import exponents_of_project, targets_of_project
from pipeline.config.gate import MicroLimits
from pipeline.config.sweep import SearchConfig, search_config
from pipeline.config.train import HEAD
from pipeline.errors import ConfigurationError, InputError, PipelineError
from pipeline.files import layout, write_bytes, write_text
from pipeline.keys.key import hash_of
from pipeline.metrics.candidates import MIB, Candidate, as_edit, front
from pipeline.pictures.tradeoff import tradeoff
from pipeline.takes.splits import TRAIN, VALIDATION, read_takes
from pipeline.tools.micro_table import micro_cells, micro_columns, told_micro
from pipeline.tools.results import gate_of, params_of_project, read_metrics
from pipeline.tools.sweep import budgets, check_all
from pipeline.tools.tables import text_table

FOLDER = Path("plots/search")
STUDIES = Path(".cache/search/study.sqlite3")

_STDERR = 2  # results alone go to stdout
_NUM_DIGITS = 12  # of the hash in a study's name
_MAX_ROWS = 12  # of the table on the terminal
_USUAL_LATENCY_MS = 10.0  # of EfficientNet-Lite0, where nothing was measured yet
_FAILURE, _SETTINGS, _OUTCOME, _SECONDS = "failure", "settings", "outcome", "seconds"


@dataclass(frozen=True)
class Settings:
    """What a trial tries.

    Attributes:
        backbone: As in params.yaml; the name may say a resolution.
        scheme: Of quantization.
    """

    backbone: str
    scheme: str

    def of_params(self, params: Mapping[str, Any]) -> dict[str, object]:
        """Return keys and values that make this of what params.yaml holds."""
        schemes = params["quantization"]
        more: dict[str, object] = {} if self.scheme in schemes else {"quantization": [*schemes, self.scheme]}
        more |= {} if params["training"]["mode"] == HEAD else {"training.mode": HEAD}  # a search is about heads
        return {"backbone": self.backbone, **more, "deploy": self.scheme}

    def __str__(self) -> str:
        return f"{self.backbone} {self.scheme}"


@dataclass(frozen=True)
class Costs:
    """What models cost, by backbone and scheme.

    Attributes:
        latencies_ms: From one sitting; those that trials saw come from different times.
        micro: What each takes on a microcontroller, as far as there are limits on it.
    """

    latencies_ms: Mapping[tuple[str, str], float]
    micro: Mapping[tuple[str, str], Mapping[str, int]]


def search(config: SearchConfig) -> None:
    """Run the trials that the study lacks, then write and print what was found.

    Raises:
        PipelineError: If a choice does not exist, frames cannot be made, another search is running, or all trials
            failed.
    """
    params = params_of_project()
    schemes = list(dict.fromkeys([layout.REFERENCE_SCHEME, *config.quantization]))
    check_all(names_of(config.backbones, config.input_pixels), schemes, params)
    make_frames()
    inputs = fingerprint()
    with _only_one():
        study = open_study(config, inputs, params)
        tell_duration(study, config)
        shop = Workshop(STUDIES.parent / inputs[:_NUM_DIGITS], params["resize"], Path.cwd())
        run_trials(study, config, shop, params["training"])
    models = dict.fromkeys(_model_of(trial) for trial in finished(study))
    limits = gate_of(params).micro
    costs = {model: shop.micro_costs(*model, limits) for model in models}
    num_takes = sum(take.has_part(TRAIN, VALIDATION) for take in read_takes(layout.SPLITS))
    tell(study, params, Costs(shop.latencies(models), costs), num_takes)


def make_frames() -> None:
    """Bring data/frames and data/augmented up to date.

    Raises:
        InputError: If DVC, or a stage, fails.
    """
    if subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--quiet", "augment"], stdout=_STDERR, check=False
    ).returncode:
        raise InputError(
            found="the frames cannot be made (see above)",
            expected="a run of the stages split, frames and augment",
            remedy="`dvc repro augment` tells more",
        )


def open_study(config: SearchConfig, inputs: str, params: Mapping[str, Any]) -> optuna.Study:
    """Open the study of these inputs and this space, or begin it; what it lacks is lined up.

    Args:
        config: The space.
        inputs: Hash of data, code and configuration: trials on others cannot be compared.
        params: What params.yaml holds.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # this module tells what happens
    STUDIES.parent.mkdir(parents=True, exist_ok=True)
    space = {key: value for key, value in asdict(config).items() if not key.startswith("num_")}
    study = optuna.create_study(
        study_name=hash_of({"inputs": inputs, "space": space})[:_NUM_DIGITS],
        storage=f"sqlite:///{STUDIES}",
        load_if_exists=True,
        directions=["maximize", "minimize", "minimize"],
    )
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)  # its process was killed
    for settings in to_try(study, config, params):
        study.enqueue_trial(asdict(settings), skip_if_exists=True)
    return study


def to_try(study: optuna.Study, config: SearchConfig, params: Mapping[str, Any]) -> list[Settings]:
    """Return what a study lacks: first what params.yaml has now, then the others in an order drawn by `seed`."""
    backbones = names_of(config.backbones, config.input_pixels)
    space = [Settings(backbone, scheme) for backbone in backbones for scheme in config.quantization]
    random.Random(config.seed).shuffle(space)
    space.sort(key=lambda settings: settings != Settings(params["backbone"], params["deploy"]))
    tried = {str(Settings(**trial.user_attrs[_SETTINGS])) for trial in [*finished(study), *failed(study)]}
    return [settings for settings in space if str(settings) not in tried][: num_missing(study, config)]


def run_trials(study: optuna.Study, config: SearchConfig, shop: Workshop, training: Mapping[str, Any]) -> None:
    """Run as many trials as are missing; a trial that fails is told with its settings and costs no other."""
    backbones, schemes = names_of(config.backbones, config.input_pixels), list(config.quantization)

    def objective(trial: Trial) -> tuple[float, float, int]:
        began = time.monotonic()
        settings = Settings(
            trial.suggest_categorical("backbone", backbones), trial.suggest_categorical("scheme", schemes)
        )
        trial.set_user_attr(_SETTINGS, asdict(settings))
        try:
            found = shop.try_out(
                settings.backbone,
                settings.scheme,
                training,
                title=f"trial {trial.number + 1}",
            )
        except Exception as error:
            told = str(error) if isinstance(error, PipelineError) else f"{type(error).__name__}: {error}"
            trial.set_user_attr(_FAILURE, told)
            sys.stderr.write(f"\ntrial {trial.number + 1} failed ({settings}): {told}\n")
            raise
        seconds = time.monotonic() - began
        trial.set_user_attr(_OUTCOME, asdict(found))
        trial.set_user_attr(_SECONDS, round(seconds, 1))
        sys.stderr.write(f"trial {trial.number + 1}: {settings}: {_told(found)}; {seconds:.0f} s\n")
        return found.accuracy, found.latency_ms, found.size_bytes

    if missing := num_missing(study, config):
        study.optimize(objective, n_trials=missing, catch=(Exception,))


def num_missing(study: optuna.Study, config: SearchConfig) -> int:
    """Return how many trials a study lacks: no more than there is to try."""
    num_all = len(names_of(config.backbones, config.input_pixels)) * len(config.quantization)
    return max(0, min(config.num_trials, num_all) - len(finished(study)) - len(failed(study)))


def tell_duration(study: optuna.Study, config: SearchConfig) -> None:
    """Say how long the missing trials may take, before they begin."""
    missing = num_missing(study, config)
    if not missing:
        return
    past = [Past(_model_of(trial), trial.user_attrs[_SECONDS]) for trial in finished(study)]
    reference = layout.metrics(layout.REFERENCE_SCHEME)
    tables = [path for folder in (layout.FRAMES, layout.AUGMENTED) for path in folder.rglob("*.parquet")]
    estimate = estimated(
        missing,
        len(names_of(config.backbones, config.input_pixels)) * len(config.quantization),
        past,
        num_pictures=sum(pq.read_metadata(path).num_rows for path in tables),
        latency_ms=read_metrics(reference)["latency_ms"]["p50"] if reference.exists() else _USUAL_LATENCY_MS,
        num_workers=os.cpu_count() or 1,
    )
    sys.stderr.write(f"search: {missing} trials to run: {estimate}; Ctrl-C keeps what is finished\n")


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that gave something."""
    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])


def failed(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that went wrong; those that were interrupted are not among them, and run again."""
    return [
        trial for trial in study.get_trials(deepcopy=False, states=[TrialState.FAIL]) if _FAILURE in trial.user_attrs
    ]


def tell(study: optuna.Study, params: Mapping[str, Any], costs: Costs, num_takes: int) -> None:
    """Write table and picture, print the best trials and the choice.

    Args:
        study: With its trials.
        params: What params.yaml holds.
        costs: Of all models that were tried.
        num_takes: Takes that the trials were compared on, each held out once.

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
    targets, exponents, limits = targets_of_project(), exponents_of_project(), gate_of(params).micro
    candidates = [_candidate(trial, params, costs) for trial in trials]
    on_front = front([one for one in candidates if limits.keep(one.micro_costs)])
    rewards = [reward(one, targets, exponents) for one in candidates]
    rows = [
        {"trial": trial.number + 1, **trial.user_attrs[_SETTINGS], **trial.user_attrs[_OUTCOME]}
        | {"latency_ms": one.latency_ms, "is_on_front": one in on_front, "reward": value}
        | {cost: one.micro_costs.get(cost) for cost in limits.by_cost()}
        | {"seconds": trial.user_attrs[_SECONDS]}
        for trial, one, value in zip(trials, candidates, rewards, strict=True)
    ]
    table = pd.DataFrame(rows).rename(columns={"latency_ms": "latency_ms_p50"})
    table = table.sort_values(["reward", "latency_ms_p50"], ascending=[False, True], kind="stable")
    write_text(FOLDER / "table.csv", table.to_csv(index=False, lineterminator="\n"))
    fit = fitting(candidates, limits, f"{FOLDER}/table.csv")
    choice = choose(fit, targets, exponents)
    picture = tradeoff(
        candidates,
        chosen=choice.candidate,
        chosen_is="chosen",
        targets=targets,
        title=f"What {len(trials)} trials give and cost",
        accuracy_label="cross-validated accuracy, %",
        num_threads=1,
    )
    write_bytes(FOLDER / "tradeoff.png", picture)
    sys.stdout.write(
        "\n".join(
            [
                "",
                f"{len(trials)} trials, {len(failed(study))} failed; accuracy by cross-validation over the {num_takes} "
                "takes that are not for testing",
                "latency: median of one picture in LiteRT on this machine, not of a phone; one sitting",
                "",
                _text(table.head(_MAX_ROWS), limits),
                "",
                *([told_micro(len(fit), len(candidates), limits)] if limits else []),
                *(f"Best with {text}" for text in budgets(fit, targets)),
                "Chosen: " + sentence(choice, targets),
                "The best of many looks better than it is, the more so the fewer takes: the run that follows tells.",
                *_to_make_real(choice.candidate.settings, params),
                f"Table and picture: {FOLDER}/table.csv, {FOLDER}/tradeoff.png; study: {STUDIES} ({study.study_name})",
                "",
            ]
        )
    )


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


def _model_of(trial: FrozenTrial) -> tuple[str, str]:
    """Return backbone and scheme, which the costs follow from."""
    settings = Settings(**trial.user_attrs[_SETTINGS])
    return settings.backbone, settings.scheme


def _candidate(trial: FrozenTrial, params: Mapping[str, Any], costs: Costs) -> Candidate:
    settings, found = Settings(**trial.user_attrs[_SETTINGS]), Outcome(**trial.user_attrs[_OUTCOME])
    name = f"{settings.backbone} {settings.scheme} (trial {trial.number + 1})"
    return Candidate(
        name,
        found.accuracy,
        costs.latencies_ms[_model_of(trial)],
        found.size_bytes,
        settings.of_params(params),
        found.standard_error,
        costs.micro.get(_model_of(trial), {}),
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


def _told(found: Outcome) -> str:
    accuracy = f"accuracy {found.accuracy:.3f} ± {found.standard_error:.3f}"
    return f"{accuracy}, {found.latency_ms:.1f} ms, {found.size_bytes / MIB:.2f} MiB"


@contextmanager
def _only_one() -> Iterator[None]:
    """Be the only search of this folder. The system gives up the lock however the process ends.

    Raises:
        ConfigurationError: If another is running.
    """
    STUDIES.parent.mkdir(parents=True, exist_ok=True)
    with (STUDIES.parent / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(
                found="another search is running in this folder",
                expected="one at a time",
                remedy="wait until it has ended, or stop it: what it has found is kept",
            ) from error
        yield


def run_search(num_trials: int | None) -> None:
    """Run the search that conf/search.yaml asks for; Ctrl-C leaves the finished trials, and says so.

    Args:
        num_trials: That the study has in the end; None for what the file says.

    Raises:
        PipelineError: See `search`.
    """
    answer_ctrl_c_by_an_exception()
    config = search_config()
    config.num_trials = config.num_trials if num_trials is None else num_trials
    try:
        search(config)
    except KeyboardInterrupt:
        sys.stderr.write("\nsearch: finished trials are kept, `make search` goes on from there\n")
        raise
