"""Makes a stage an ordinary Hydra application with typed values and readable errors."""

import importlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from pipeline.errors import PipelineError
from pipeline.files.full_disk import telling_full_disk

CONF_FOLDER = Path(__file__).resolve().parents[2] / "conf"

Stage = TypeVar("Stage")
Choices = Mapping[str, Callable[[str], list[str]]]  # groups whose choices mean more than the name of a file


def run_stage(
    name: str, schema: type[Stage], stage: Callable[[Stage], None], choices: Choices = MappingProxyType({})
) -> None:
    """Run a stage on the configuration that Hydra composes from conf/<name>.yaml and the command line.

    A `PipelineError` or a full disk is told without a traceback and ends the process with status 1. Ctrl-C ends it with
    status 130, at once: threads in the middle of a take are not waited for.

    Args:
        name: Stage name; conf/<name>.yaml lists `<name>_schema` first in its defaults.
        schema: Dataclass that types the configuration.
        stage: Does the work.
        choices: For each group whose choices are not just names of files in conf/<group>/: what turns a choice into
            Hydra overrides, before Hydra sees it.
    """
    register(name, schema)
    try:
        sys.argv[1:] = expanded(sys.argv[1:], choices)
    except PipelineError as error:
        print_error(name, error)
        sys.exit(1)
    stage = _importable(name, stage)

    def task(config: DictConfig) -> None:
        try:
            with telling_full_disk(Path.cwd()):
                stage(typed(config))
        except PipelineError as error:
            print_error(name, error)
            sys.exit(1)

    try:
        answer_ctrl_c_by_an_exception()
        hydra.main(version_base="1.3", config_path=str(CONF_FOLDER), config_name=name)(task)()
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


def _importable(name: str, stage: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """Return a stage that was run as `python -m pipeline.<name>` from its module under its own name.

    What is defined in `__main__` is not found by other processes that it is sent to.
    """
    if stage.__module__ != "__main__":
        return stage
    found: Callable[[Stage], None] = getattr(importlib.import_module(f"pipeline.{name}"), stage.__name__)
    return found


def expanded(arguments: Sequence[str], choices: Choices) -> list[str]:
    """Replace each `<group>=<choice>` by the overrides that it stands for, and leave all else as it is.

    Raises:
        PipelineError: If a choice means nothing.
    """
    found = []
    for argument in arguments:
        group, _, choice = argument.partition("=")
        found += choices[group](choice) if group in choices else [argument]
    return found


def register(name: str, schema: type[Any]) -> None:
    """Make a stage's dataclass known to Hydra as `<name>_schema`."""
    ConfigStore.instance().store(name=f"{name}_schema", node=schema)


def typed(config: DictConfig) -> Any:
    """Turn a composed configuration into its dataclass, whose `__post_init__` checks the ranges.

    Raises:
        PipelineError: If a value is missing or out of its range.
    """
    try:
        return OmegaConf.to_object(config)
    except MissingMandatoryValue as error:
        raise PipelineError(
            found=f"no value for `{error.full_key}`",
            expected="a value for every key",
            remedy=f"give it in params.yaml, or on the command line as {error.full_key}=...",
        ) from error


def print_error(name: str, error: PipelineError) -> None:
    """Print an error that a person can mend to stderr."""
    sys.stderr.write(f"\n{name}: {error}\n")
