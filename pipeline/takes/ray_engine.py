"""Computes takes in processes of a Ray cluster: one that runs already, or one started here that ends with the stage.

Workers write each result to its place in the folder that will become the stage's output, where nothing counts before
they have said that it is whole; a worker that dies is replaced by one that writes it anew. Only the stage's own process
writes the cache. All paths are the project's, so each machine must see the project's folder where this one does.
"""

import logging
import os
from collections.abc import Generator, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError:
    ray = None

from pipeline.config.engine import EngineConfig
from pipeline.errors import ConfigurationError, FullDiskError, MissingPackageError, PipelineError
from pipeline.files.os_errors import telling_full_disk
from pipeline.processes.workers import num_workers
from pipeline.takes.engines import Outcome
from pipeline.takes.jobs import TakeJob

# Ray reads these when it starts: no statistics sent home, and its coming default instead of a warning about it.
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


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
            PipelineError: If there is no cluster at the address.
        """
        is_ours = not ray.is_initialized()
        if is_ours:
            _connect(self._config)
        compute = ray.remote(num_cpus=1, max_retries=self._config.max_retries)(compute_in)
        num_at_once = self._config.num_workers or int(ray.cluster_resources().get("CPU", 1))
        waiting, begun = iter(jobs), dict[Any, TakeJob]()
        try:
            while True:
                for job in islice(waiting, num_at_once - len(begun)):
                    begun[compute.remote(str(Path.cwd()), job, folder)] = job
                if not begun:
                    return
                for reference in ray.wait(list(begun))[0]:
                    job = begun.pop(reference)
                    yield job, self._result(reference, job)
        finally:
            for reference in begun:
                ray.cancel(reference, force=True)
            if is_ours:
                ray.shutdown()

    def _result(self, reference: Any, job: TakeJob) -> PipelineError | None:
        """Fetch what came of a job; a full disk, and a fault in our own code, is raised as it is."""
        try:
            outcome: PipelineError | None = ray.get(reference)
        except RayTaskError:
            raise
        except RayError as error:
            return PipelineError(
                found=f"{job.name}: its worker process died {self._config.max_retries + 1} times "
                f"({type(error).__name__})",
                expected="a worker process that lives until the take is done",
                remedy="lower num_workers in conf/engine/ if memory ran out, see Ray's logs, or set `engine: local`",
            )
        if isinstance(outcome, FullDiskError):
            raise outcome
        return outcome


def compute_in(project: str, job: TakeJob, folder: Path) -> PipelineError | None:
    """Compute a take in a worker process, which may have been started in another folder.

    Args:
        project: The project's folder, which the paths in the job are relative to.
        job: The take.
        folder: Where the result gets its place.

    Returns:
        None, or the `PipelineError` that says what is wrong with the take or with the disk.
    """
    os.chdir(project)
    try:
        with telling_full_disk(folder / job.output):
            job.write(folder)
    except PipelineError as error:
        return error
    return None


def _connect(config: EngineConfig) -> None:
    """Connect to the cluster, or start one on this machine, without a word on the terminal."""
    os.environ.update({name: os.environ.get(name, value) for name, value in _SETTINGS.items()})
    # "local" starts a new cluster even where the environment names one.
    where = {"address": config.address} if config.address else {"address": "local", "include_dashboard": False}
    size = {} if config.address else {"num_cpus": config.num_workers or num_workers()}
    try:
        ray.init(**where, **size, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigurationError(
            found=f"no Ray cluster can be used at `address: {config.address}` ({str(error).splitlines()[0]})",
            expected="the address of a running cluster, or an empty one to start Ray on this machine",
            remedy="correct `address` in conf/engine/, start the cluster (`ray start --head`), or set `engine: local`",
        ) from error
