"""Makes a stage an ordinary Hydra application with typed values and readable errors."""

import contextlib
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import hydra
from omegaconf import DictConfig

from pipeline.config.composing import (
    COMPOSITION_ERRORS,
    Choices,
    Stage,
    expanded,
    given,
    refusal,
    register,
    typed,
)
from pipeline.config.plain import CONF_FOLDER, PARAMS, load
from pipeline.errors import ConfigurationError, PipelineError
from pipeline.files import layout
from pipeline.files.os_errors import telling_os_errors
from pipeline.keys.description import description


def run_stage(
    name: str, schema: type[Stage], stage: Callable[[Stage], None], choices: Choices = MappingProxyType({})
) -> None:
    """Run a stage on the configuration that Hydra composes from conf/<name>.yaml, params.yaml and the command line.

    The later wins over the earlier. A `PipelineError`, or a fault of the disk, is told without a traceback and ends the
    process with the status of its kind. Ctrl-C ends it with status 130, at once: threads in the middle of a take are
    not waited for.

    Args:
        name: Stage name; conf/<name>.yaml lists `<name>_schema` first in its defaults and `params` last.
        schema: Dataclass that types the configuration.
        stage: Does the work.
        choices: For each group whose choices are not just names of files in conf/<group>/: what turns a choice into
            Hydra overrides, before Hydra sees it.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors through, which are told below
    stage, params, arguments = _importable(stage), dict[str, Any](), sys.argv[1:]

    def task(config: DictConfig) -> None:
        with _ending_with_a_message(name):
            refuse_code_that_dvc_does_not_know(name)
            stage(typed(config))
            refuse_params_that_changed(schema, params, arguments)

    try:
        answer_ctrl_c_by_an_exception()
        with _ending_with_a_message(name):
            params |= load(PARAMS) if PARAMS.exists() else {}
            chosen = given(schema, params, sys.argv[1:])
            sys.argv[1:] = expanded([*chosen.overrides, *sys.argv[1:]], choices)
            try:
                register(name, schema, chosen.values)
                hydra.main(version_base="1.3", config_path=str(CONF_FOLDER), config_name=name)(task)()
            except COMPOSITION_ERRORS as error:
                raise refusal(error, name, schema, params) from error
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough
        sys.stderr.write(f"\n{name}: interrupted; finished takes are kept, `dvc repro` goes on from there\n")
        sys.stderr.flush()
        os._exit(130)  # sys.exit would wait for the threads
    _end_process_of(name)


def _end_process_of(name: str) -> None:
    """End the process with status 0 if it was started for a stage, as `python -m pipeline.<name>`.

    All is written by now. What libraries do at the end frees what the system frees anyway, takes up to a second
    (TensorFlow), and may crash: some library was seen to end `frames` with "terminate called without an active
    exception".
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name == f"{__package__.partition('.')[0]}.{name}":
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def refuse_code_that_dvc_does_not_know(name: str) -> None:
    """Refuse to run other code than the stage `code` has described to DVC: the result would be kept as that code's.

    Raises:
        ConfigurationError: If the code has changed since.
    """
    described = layout.code(name)
    if described.is_file() and json.loads(described.read_text(encoding="utf-8")) != description(name):
        raise ConfigurationError(
            found=f"the code of `{name}` has changed since the stage `code` described it ({described})",
            expected="the code that DVC knows of",
            remedy="run `dvc repro`, which describes it anew; before a stage by hand: python -m pipeline.code",
        )


def refuse_params_that_changed(schema: type[Any], before: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Refuse a result whose parameters were edited meanwhile: DVC reads them afterwards, and would keep it as theirs.

    Args:
        schema: The stage's dataclass.
        before: What params.yaml held when the stage began.
        arguments: The command line.

    Raises:
        ConfigurationError: If what the stage takes is another than then.
    """
    now = load(PARAMS) if PARAMS.exists() else {}
    if given(schema, now, arguments) != given(schema, before, arguments):
        raise ConfigurationError(
            found=f"{PARAMS} was edited while the stage ran",
            expected="the values that it began with",
            remedy="run `dvc repro` again",
        )


def answer_ctrl_c_by_an_exception() -> None:
    """Let Ctrl-C clean up what is begun; `pipeline/__init__.py` has let it end the process while modules were imported.

    A process that was told to ignore it, as one behind `nohup` is, goes on ignoring it.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def print_error(name: str, error: PipelineError) -> None:
    """Print an error that a person can mend to stderr."""
    sys.stderr.write(f"\n{name}: {error}\n")


@contextlib.contextmanager
def _ending_with_a_message(name: str) -> Iterator[None]:
    """End the process with a message and a status when a `PipelineError` or a fault of the disk comes through."""
    try:
        with telling_os_errors(Path.cwd()):
            yield
    except PipelineError as error:
        print_error(name, error)
        sys.exit(error.exit_status)


def _importable(stage: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """Return a stage that was run as `python -m pipeline.<name>` from its module under its own name.

    What is defined in `__main__` is not found by other processes that it is sent to.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if stage.__module__ != "__main__" or spec is None:
        return stage
    found: Callable[[Stage], None] = getattr(importlib.import_module(spec.name), stage.__name__)
    return found
