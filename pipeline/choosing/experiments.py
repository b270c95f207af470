"""Runs DVC experiments that leave this folder as it is, and reads their metrics."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from dvc.api import DVCFileSystem  # type: ignore[import-untyped]
from dvc.exceptions import DvcException  # type: ignore[import-untyped]
from dvc.repo import Repo  # type: ignore[import-untyped]
from dvc.scm import resolve_rev  # type: ignore[import-untyped]
from scmrepo.exceptions import SCMError

from pipeline.errors import ConfigurationError, ModelError, PipelineError
from pipeline.files import layout

_POLL_SECONDS = 0.2
_STDERR = 2


@dataclass(frozen=True)
class Experiment:
    """An experiment of DVC.

    Attributes:
        name: That `dvc exp show` lists it by.
        settings: What differs from params.yaml: keys (with a file before a colon, if it is another) and values.
        target: The last stage to run.
    """

    name: str
    settings: Mapping[str, object]
    target: str

    def command(self) -> list[str]:
        """Return what one would type: an experiment in a temporary checkout, so that nothing here is changed."""
        return ["dvc", "exp", "run", "--temp", "--name", self.name, *set_param(self.settings), self.target]


def set_param(settings: Mapping[str, object]) -> list[str]:
    """Return settings as options of `dvc exp run`."""
    return [word for key, value in settings.items() for word in ("-S", f"{key}={_text(value)}")]


def run(experiment: Experiment) -> None:
    """Run an experiment; what it prints goes to stderr.

    A temporary checkout, not the queue: its worker would go on in the background after Ctrl-C, and not in this folder:
    Ctrl-C would leave params.yaml edited.

    Raises:
        PipelineError: If it fails.
        KeyboardInterrupt: If the user has had enough. DVC has ended by then, and finished stages are kept.
    """
    command = experiment.command()
    sys.stderr.write(f"\n$ {shlex.join(command)}\n")
    sys.stderr.flush()
    left_behind = _checkouts(experiment.name)
    status = run_interruptibly(
        [sys.executable, "-m", *command], lambda: bool(_checkouts(experiment.name) - left_behind)
    )
    if status:
        raise PipelineError(
            found=f"the experiment {experiment.name} failed (what it printed is above)",
            expected="a run of all its stages",
            remedy="mend what the message above says, then run this again: what is finished is kept",
        )


def metrics_of(names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return the metrics of those experiments that exist, by name, each as `metrics_at` gives them."""
    with Repo() as repo:
        every = [found for group in repo.experiments.ls(all_commits=True).values() for found in group]
    return {name: metrics_at(revision) for name, revision in every if name in names}


def metrics_at(revision: str) -> dict[str, dict[str, Any]]:
    """Return the files of metrics/ at a revision of Git, or of an experiment, by scheme (and "deployed").

    Raises:
        ConfigurationError: If there is no such revision, or no project there.
    """
    try:
        with Repo() as repo:
            revision = resolve_rev(repo.scm, revision)
        with contextlib.closing(DVCFileSystem(rev=revision)) as files:
            folder = str(layout.DEPLOYED_METRICS.parent)
            paths = files.find(folder) if files.isdir(folder) else []
            return {Path(path).stem: json.loads(files.read_text(path, encoding="utf-8")) for path in paths}
    except (DvcException, SCMError, OSError, ValueError) as error:
        raise ConfigurationError(
            found=f"no metrics can be read at {revision} ({error})",
            expected="a commit, branch or tag of this project, or an experiment that `dvc exp list` shows",
            remedy="give another; git log --oneline lists commits",
        ) from error


def file_of(name: str, path: str) -> bytes:
    """Return a file that an experiment made, from DVC's cache.

    Raises:
        ModelError: If it is not there any more.
    """
    try:
        with contextlib.closing(DVCFileSystem(rev=name)) as files:
            content: bytes = files.read_bytes(path)
    except (DvcException, OSError) as error:
        raise ModelError(
            found=f"{path} of the experiment {name} is not in DVC's cache ({error})",
            expected="the results of experiments that `dvc exp list --all-commits` shows",
            remedy=f"dvc exp remove {name}, then run this again",
        ) from error
    return content


def _text(value: object) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)


def run_interruptibly(command: list[str], may_be_disturbed: Callable[[], bool]) -> int:
    """Run a command in a session of its own, so that Ctrl-C reaches it when it can bear it; return its status.

    Args:
        command: What to run. Its output goes to stderr: results alone go to stdout.
        may_be_disturbed: Tells whether it can bear Ctrl-C by now; asked only after there was one.

    Raises:
        KeyboardInterrupt: After the command has ended, if there was one.
    """
    is_interrupted = is_told = False

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        nonlocal is_interrupted
        is_interrupted = True

    # The handlers come first: a process that is begun while Ctrl-C is ignored would ignore it for ever.
    with (
        _handling_interrupts(interrupt),
        subprocess.Popen(command, stdout=_STDERR, start_new_session=True, env=_environment()) as process,
    ):
        while (status := process.poll()) is None:
            if is_interrupted and not is_told and may_be_disturbed():
                os.killpg(process.pid, signal.SIGINT)
                is_told = True
            time.sleep(_POLL_SECONDS)
    if is_interrupted:
        raise KeyboardInterrupt
    return status


def _checkouts(name: str) -> set[str]:
    """Return the checkouts in which an experiment runs; from then on DVC leaves the project's own folder alone."""
    with Repo() as repo, contextlib.suppress(OSError, ValueError):  # a note that DVC is just writing
        return {entry.stash_rev for entry in repo.experiments.tempdir_queue.iter_active() if entry.name == name}
    return set()


@contextlib.contextmanager
def _handling_interrupts(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call a function when someone wants this process to end, instead of ending it."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _environment() -> dict[str, str]:
    """Return an environment in which `python` and `dvc` are those of this process."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
