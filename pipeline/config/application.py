"""Makes a stage an ordinary Hydra application with typed values and readable errors."""

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType

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
from pipeline.errors import PipelineError
from pipeline.files.os_errors import telling_os_errors


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
    stage = _importable(stage)

    def task(config: DictConfig) -> None:
        with _ending_with_a_message(name):
            stage(typed(config))

    try:
        answer_ctrl_c_by_an_exception()
        with _ending_with_a_message(name):
            params = load(PARAMS) if PARAMS.exists() else {}
            chosen = given(schema, params, sys.argv[1:])
            register(name, schema, chosen.values)
            sys.argv[1:] = expanded([*chosen.overrides, *sys.argv[1:]], choices)
            try:
                hydra.main(version_base="1.3", config_path=str(CONF_FOLDER), config_name=name)(task)()
            except COMPOSITION_ERRORS as error:
                raise refusal(error, name, schema, params) from error
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough
        sys.stderr.write(f"\n{name}: interrupted; finished takes are kept, `dvc repro` goes on from there\n")
        sys.stderr.flush()
        os._exit(130)  # sys.exit would wait for the threads


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
