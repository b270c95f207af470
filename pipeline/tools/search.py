"""Searches architectures, resolutions and schemes: `viewfinder search`, or `make search`.

Reads conf/search.yaml and data/frames, data/augmented (which `dvc repro augment` brings up to date first); writes
plots/search/{table.csv,tradeoff.png} and the study, .cache/search/study.sqlite3. A study goes on where it was. Trials
are compared by cross-validation over the takes that are not for testing: the test takes are left for the figure that is
reported in the end. What a head is trained with, cross-validation chooses inside each trial.
"""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import pyarrow.parquet as pq
from optuna.trial import Trial

from pipeline.choosing.architectures import names_of
from pipeline.choosing.duration import Past, estimated
from pipeline.choosing.inputs import fingerprint
from pipeline.choosing.question import Question
from pipeline.choosing.workshop import Outcome, Workshop
from pipeline.config.application import answer_ctrl_c_by_an_exception
from pipeline.config.sweep import SearchConfig, search_config
from pipeline.errors import ConfigurationError, InputError, PipelineError
from pipeline.files import layout
from pipeline.metrics.candidates import MIB
from pipeline.takes.answers import read_answers
from pipeline.takes.splits import TRAIN, VALIDATION, Take, read_takes
from pipeline.tools.results import asked_head, gate_of, params_of_project, read_metrics
from pipeline.tools.search_study import (
    FAILURE,
    NUM_DIGITS,
    OUTCOME,
    SECONDS,
    SETTINGS,
    STUDIES,
    Settings,
    finished,
    model_of,
    num_missing,
    open_study,
)
from pipeline.tools.search_table import Costs, tell
from pipeline.tools.sweep import check_all

_STDERR = 2  # results alone go to stdout
_USUAL_LATENCY_MS = 10.0  # of EfficientNet-Lite0, where nothing was measured yet


def search(config: SearchConfig, *, head: str | None = None) -> None:
    """Run the trials that the study lacks, then write and print what was found.

    Args:
        config: The space.
        head: By which models are compared; None for the first.

    Raises:
        PipelineError: If a choice does not exist, frames cannot be made, another search is running, or all trials
            failed.
    """
    params = params_of_project()
    head = asked_head(params, head)
    schemes = list(dict.fromkeys([layout.REFERENCE_SCHEME, *config.quantization]))
    check_all(names_of(config.backbones, config.input_pixels), schemes, params)
    make_frames()
    inputs = fingerprint()
    takes = read_takes(layout.SPLITS)
    question = question_of(head, params, takes) if head else None
    with _only_one():
        study = open_study(config, inputs, params, head)
        tell_duration(study, config)
        shop = Workshop(STUDIES.parent / inputs[:NUM_DIGITS], params["resize"], Path.cwd(), question)
        run_trials(study, config, shop, params["training"])
    models = dict.fromkeys(model_of(trial) for trial in finished(study))
    asked = [take for take in takes if question is None or take.full_name in question.answers]
    num_takes = sum(take.has_part(TRAIN, VALIDATION) for take in asked)
    limits = gate_of(params).micro
    costs = Costs(shop.latencies(models), {model: shop.micro_costs(*model, limits) for model in models})
    tell(study, params, costs, num_takes, head)


def question_of(head: str, params: Mapping[str, Any], takes: Sequence[Take]) -> Question:
    """Return what a further head asks of the takes.

    Raises:
        InputError: If data/labels.csv does not hold what it should.
    """
    answers = read_answers(layout.LABELS, params["heads"], [take.full_name for take in takes])
    return Question(head, params["heads"][head], answers[head])


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


def run_trials(study: optuna.Study, config: SearchConfig, shop: Workshop, training: Mapping[str, Any]) -> None:
    """Run as many trials as are missing; a trial that fails is told with its settings and costs no other."""
    backbones, schemes = names_of(config.backbones, config.input_pixels), list(config.quantization)

    def objective(trial: Trial) -> tuple[float, float, int]:
        began = time.monotonic()
        settings = Settings(
            trial.suggest_categorical("backbone", backbones), trial.suggest_categorical("scheme", schemes)
        )
        trial.set_user_attr(SETTINGS, asdict(settings))
        try:
            found = shop.try_out(
                settings.backbone,
                settings.scheme,
                training,
                title=f"trial {trial.number + 1}",
            )
        except Exception as error:
            told = str(error) if isinstance(error, PipelineError) else f"{type(error).__name__}: {error}"
            trial.set_user_attr(FAILURE, told)
            sys.stderr.write(f"\ntrial {trial.number + 1} failed ({settings}): {told}\n")
            raise
        seconds = time.monotonic() - began
        trial.set_user_attr(OUTCOME, asdict(found))
        trial.set_user_attr(SECONDS, round(seconds, 1))
        sys.stderr.write(f"trial {trial.number + 1}: {settings}: {_told(found)}; {seconds:.0f} s\n")
        return found.accuracy, found.latency_ms, found.size_bytes

    if missing := num_missing(study, config):
        study.optimize(objective, n_trials=missing, catch=(Exception,))


def tell_duration(study: optuna.Study, config: SearchConfig) -> None:
    """Say how long the missing trials may take, before they begin."""
    missing = num_missing(study, config)
    if not missing:
        return
    past = [Past(model_of(trial), trial.user_attrs[SECONDS]) for trial in finished(study)]
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


def run_search(num_trials: int | None, head: str | None) -> None:
    """Run the search that conf/search.yaml asks for; Ctrl-C leaves the finished trials, and says so.

    Args:
        num_trials: That the study has in the end; None for what the file says.
        head: See `search`.

    Raises:
        PipelineError: See `search`.
    """
    answer_ctrl_c_by_an_exception()
    config = search_config()
    config.num_trials = config.num_trials if num_trials is None else num_trials
    try:
        search(config, head=head)
    except KeyboardInterrupt:
        sys.stderr.write("\nsearch: finished trials are kept, `make search` goes on from there\n")
        raise
