"""Runs DVC experiments that leave this folder as it is, and reads their metrics."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from dvc.api import DVCFileSystem  # type: ignore[import-untyped]
from dvc.exceptions import DvcException  # type: ignore[import-untyped]

from pipeline.errors import PipelineError

# From this on DVC works in a checkout of its own; before, it looks through this folder, and must not be disturbed.
_IN_ITS_OWN_CHECKOUT = re.compile(r"(Running stage|Stage) '")
_REFERENCE = re.compile(r"refs/exps/(\w{2})/(\w{38,})/(.+)")


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
    """Run an experiment; what it prints is passed on.

    A temporary checkout, not the queue: its worker would go on in the background after Ctrl-C, and not in this folder:
    Ctrl-C would leave params.yaml edited.

    Raises:
        PipelineError: If it fails.
        KeyboardInterrupt: If the user has had enough. DVC has ended by then, and finished stages are kept.
    """
    command = experiment.command()
    sys.stdout.write(f"\n$ {shlex.join(command)}\n")
    status = _run_interruptibly([sys.executable, "-m", *command])
    if status:
        raise PipelineError(
            found=f"the experiment {experiment.name} failed (what it printed is above)",
            expected="a run of all its stages",
            remedy="mend what the message above says, then run this again: what is finished is kept",
        )


def metrics_of(names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return the metrics of those experiments that exist, by name: the files of metrics/ by scheme.

    Raises:
        PipelineError: If DVC cannot list them.
    """
    listed = _output("git", "for-each-ref", "--format=%(refname)", "refs/exps")
    found = [match.groups() for line in listed.splitlines() if (match := _REFERENCE.fullmatch(line))]
    baselines = sorted({first + rest for first, rest, name in found if name in names})
    if not baselines:
        return {}
    revisions = [word for baseline in baselines for word in ("--rev", baseline)]
    shown = json.loads(_output(sys.executable, "-m", "dvc", "exp", "show", "--json", "--num", "1", *revisions))
    every = [group for row in shown for group in row["experiments"] or []]
    return {group["name"]: _metrics(group["revs"][0]) for group in every if group["name"] in names}


def file_of(name: str, path: str) -> bytes:
    """Return a file that an experiment made, from DVC's cache.

    Raises:
        PipelineError: If it is not there any more.
    """
    try:
        content: bytes = DVCFileSystem(rev=name).read_bytes(path)
    except (DvcException, OSError) as error:
        raise PipelineError(
            found=f"{path} of the experiment {name} is not in DVC's cache ({error})",
            expected="the results of experiments that `dvc exp list --all-commits` shows",
            remedy=f"dvc exp remove {name}, then run this again",
        ) from error
    return content


def _metrics(revision: Mapping[str, Any]) -> dict[str, Any]:
    files = (revision["data"] or {}).get("metrics") or {}
    return {Path(name).stem: content["data"] for name, content in files.items() if "data" in content}


def _text(value: object) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _run_interruptibly(command: list[str]) -> int:
    """Run a command in a session of its own, so that Ctrl-C reaches it when it can bear it; return its status.

    Raises:
        KeyboardInterrupt: After the command has ended, if there was one.
    """
    begun: list[subprocess.Popen[str]] = []
    is_interrupted = is_away = False

    def interrupt(_signal: int = 0, _frame: FrameType | None = None) -> None:
        nonlocal is_interrupted
        is_interrupted = True
        for process in begun if is_away else ():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)

    # The handlers come first: a process that is begun while Ctrl-C is ignored would ignore it for ever.
    with (
        _handling_interrupts(interrupt),
        subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, errors="replace", start_new_session=True, env=_environment()
        ) as process,
    ):
        begun.append(process)
        for line in process.stdout or ():
            sys.stdout.write(line)
            sys.stdout.flush()
            if not is_away and _IN_ITS_OWN_CHECKOUT.match(line):
                is_away = True
                if is_interrupted:
                    interrupt()
        status = process.wait()
    if is_interrupted:
        raise KeyboardInterrupt
    return status


@contextmanager
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


def _output(*command: str) -> str:
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    if finished.returncode:
        raise PipelineError(
            found=f"`{shlex.join(command)}` failed: {finished.stderr.strip()}",
            expected="a list of experiments",
            remedy="run it by hand; `dvc exp list --all-commits` shows what there is",
        )
    return finished.stdout
