"""Computes takes and folds in processes of a Ray cluster: one that runs already, or one that the stage starts and ends.

The work travels; machines share no folder. What a take is made from goes through Ray's object store to a temporary
folder of the worker, its result comes back as bytes, and only the stage's own process writes anything that lasts. What
takes share, as the backbone, and what folds share, goes to each machine once. The code is what this process runs: Ray's
runtime environment brings it along. The libraries must be there, and a worker that has others, or another kind of
processor where that matters, refuses: its bytes would be kept under a key that says otherwise.
"""

import contextlib
import io
import logging
import os
import pickle
import platform
import tempfile
from collections.abc import Generator, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError:
    ray = None

from pipeline.config.engine import EngineConfig
from pipeline.errors import ConfigurationError, FullDiskError, MissingPackageError, PipelineError
from pipeline.files import write_bytes
from pipeline.files.os_errors import telling_full_disk
from pipeline.keys.usage import package_folder
from pipeline.processes.workers import num_workers
from pipeline.takes.engines import Outcome
from pipeline.takes.jobs import TakeJob

# Ray reads these when it starts: no statistics sent home, and its coming default instead of a warning about it.
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
_LARGE_BYTES = 1 << 20  # what is as large is not sent with each take, but once

Content: TypeAlias = npt.NDArray[np.uint8]  # of a file; Ray shares arrays between processes without copying them


class RayEngine:
    """Computes takes on a Ray cluster. One that this process is connected to already is left as it is."""

    def __init__(self, config: EngineConfig) -> None:
        """Keep the configuration.

        Raises:
            PipelineError: If Ray is not installed.
        """
        if ray is None:
            raise MissingPackageError(
                found="`engine: ray`, but Ray is not installed",
                expected="the package `ray`, which only this engine needs",
                remedy="run `pip install .[ray]`, or set `engine: local` in params.yaml",
            )
        self._config = config

    def run(self, jobs: Iterable[TakeJob], folder: Path) -> Generator[Outcome, None, None]:
        """See `engines.Engine.run`.

        Raises:
            PipelineError: If there is no cluster at the address, or one of its machines would compute other bytes.
        """
        with self.session():
            yield from self._run(jobs, folder)

    @contextlib.contextmanager
    def session(self) -> Generator[None, None, None]:
        """Be connected to the cluster meanwhile.

        Raises:
            PipelineError: See `run`.
        """
        is_ours = not ray.is_initialized()
        if is_ours:
            _connect(self._config)
        try:
            yield
        finally:
            if is_ours:
                ray.shutdown()

    def _run(self, jobs: Iterable[TakeJob], folder: Path) -> Generator[Outcome, None, None]:
        compute = ray.remote(num_cpus=1, max_retries=self._config.max_retries)(compute_sent)
        num_at_once = self._config.num_workers or int(ray.cluster_resources().get("CPU", 1))
        waiting, begun, store = iter(jobs), dict[Any, TakeJob](), _Store()
        try:
            while True:
                for job in islice(waiting, num_at_once - len(begun)):
                    pickled, shared = store.packed(job)
                    contents = [np.fromfile(path, np.uint8) for path in job.reads]
                    begun[compute.remote(pickled, len(shared), *shared, *contents)] = job
                if not begun:
                    return
                for reference in ray.wait(list(begun))[0]:
                    job = begun.pop(reference)
                    yield job, self._result(reference, job, folder)
        finally:
            for reference in begun:
                ray.cancel(reference, force=True)

    def _result(self, reference: Any, job: TakeJob, folder: Path) -> PipelineError | None:
        """Give a result its place, or tell what is wrong with its take.

        What is wrong with a machine, and a fault in our own code, is raised as it is.
        """
        try:
            outcome: Content | PipelineError = ray.get(reference)
        except RayTaskError:
            raise
        except RayError as error:
            return PipelineError(
                found=f"{job.name}: its worker process died {self._config.max_retries + 1} times "
                f"({type(error).__name__})",
                expected="a worker process that lives until its work is done",
                remedy="lower num_workers in conf/engine/ if memory ran out, see Ray's logs, or set `engine: local`",
            )
        if isinstance(outcome, (FullDiskError, ConfigurationError)):
            raise outcome
        if isinstance(outcome, PipelineError):
            return outcome
        write_bytes(folder / job.output, outcome.tobytes())
        return None


class _Store:
    """Ray's object store, and what has been put there: byte strings that many jobs hold."""

    def __init__(self) -> None:
        self._put = dict[int, tuple[bytes, Any]]()  # with the object itself, so that its number stays its own

    def packed(self, job: TakeJob) -> tuple[bytes, list[Any]]:
        """Return a job as bytes without what is large in it, and the references of that."""
        file, parts = io.BytesIO(), list[bytes]()
        _Pickler(file, parts).dump(job)
        for part in parts:
            if id(part) not in self._put:
                self._put[id(part)] = part, ray.put(part)
        return file.getvalue(), [self._put[id(part)][1] for part in parts]


class _Pickler(pickle.Pickler):
    """Leaves large byte strings out, and collects them."""

    def __init__(self, file: io.BytesIO, parts: list[bytes]) -> None:
        super().__init__(file)
        self._parts = parts

    def persistent_id(self, part: object) -> int | None:
        """Return the number of a part that is left out, None for all others."""
        if not isinstance(part, bytes) or len(part) < _LARGE_BYTES:
            return None
        self._parts.append(part)
        return len(self._parts) - 1


class _Unpickler(pickle.Unpickler):
    """Puts them in again."""

    def __init__(self, pickled: bytes, parts: Sequence[bytes]) -> None:
        super().__init__(io.BytesIO(pickled))
        self._parts = parts

    def persistent_load(self, number: int) -> bytes:
        """Return a part that was left out."""
        return self._parts[number]


def compute_sent(pickled: bytes, num_shared: int, *sent: Any) -> Content | PipelineError:
    """Compute a take in a worker process, which sees nothing of the project but what was sent.

    Args:
        pickled: The job without what is large in it.
        num_shared: How many byte strings were left out of it; they come first in `sent`.
        sent: Behind them the contents of the files that the job reads, in their order.

    Returns:
        The result as a Parquet file, or the `PipelineError` that says what is wrong with the take or the machine.
    """
    job: TakeJob = _Unpickler(pickled, sent[:num_shared]).load()
    machine = platform.node()
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.chdir(folder),
            telling_full_disk(Path(folder)),
            tempfile.TemporaryDirectory() as results,
        ):
            job.refuse_other_bytes(machine)
            for path, content in zip(job.reads, sent[num_shared:], strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                content.tofile(path)
            job.write(Path(results))
            result: Content = np.fromfile(Path(results) / job.output, np.uint8)
            return result
    except PipelineError as error:
        return error


def _connect(config: EngineConfig) -> None:
    """Connect to the cluster, or start one on this machine, without a word on the terminal."""
    os.environ.update({name: os.environ.get(name, value) for name, value in _SETTINGS.items()})
    # "local" starts a new cluster even where the environment names one.
    where = {"address": config.address} if config.address else {"address": "local", "include_dashboard": False}
    size = {} if config.address else {"num_cpus": config.num_workers or num_workers()}
    code = {"py_modules": [str(package_folder())], "excludes": ["__pycache__"]}
    try:
        ray.init(**where, **size, runtime_env=code, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigurationError(
            found=f"no Ray cluster can be used at `address: {config.address}` ({str(error).splitlines()[0]})",
            expected="the address of a running cluster, or an empty one to start Ray on this machine",
            remedy="correct `address` in conf/engine/, start the cluster (`ray start --head`), or set `engine: local`",
        ) from error
