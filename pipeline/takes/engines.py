"""Engines: what computes takes. The same takes give the same bytes on each; params.yaml names one as `engine:`."""

from collections.abc import Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeAlias

from pipeline.config.engine import RAY, EngineConfig
from pipeline.errors import PipelineError
from pipeline.processes.workers import lend, num_workers
from pipeline.takes.jobs import TakeJob

Outcome: TypeAlias = tuple[TakeJob, PipelineError | None]


class Engine(Protocol):
    """Computes takes somewhere."""

    def run(self, jobs: Iterable[TakeJob], folder: Path) -> Generator[Outcome, None, None]:
        """Write the result of each job to its place in a folder, and yield the job when that is done, in any order.

        With it comes None, or what is wrong with its take; then what lies at its place is worth nothing. Only few jobs
        are begun ahead of the caller. Closing the iterator gives up all the others without waiting for them.
        """

    def session(self) -> AbstractContextManager[None]:
        """Keep what it needs to run, such as a connection, from one run to the next."""


class LocalEngine:
    """Computes takes in threads of this process: some each lead a take, as many others work on frames for them."""

    def __init__(self, num_workers: int) -> None:
        """Keep how many takes, and how many frames, are computed at the same time, at least 1."""
        self._num_workers = num_workers

    def session(self) -> AbstractContextManager[None]:
        """See `Engine.session`: threads need nothing."""
        return nullcontext()

    def run(self, jobs: Iterable[TakeJob], folder: Path) -> Generator[Outcome, None, None]:
        """See `Engine.run`. A thread amid a take cannot be stopped: whoever is in a hurry must end the process."""
        waiting, begun = iter(jobs), dict[Future[None], TakeJob]()
        frames = ThreadPoolExecutor(self._num_workers)
        executor = ThreadPoolExecutor(self._num_workers, initializer=lend, initargs=(frames,))
        try:
            while True:
                for job in islice(waiting, 2 * self._num_workers - len(begun)):
                    begun[executor.submit(job.write, folder)] = job
                if not begun:
                    return
                for future in wait(begun, return_when=FIRST_COMPLETED).done:
                    yield begun.pop(future), _result(future)
        finally:
            for pool in (executor, frames):
                pool.shutdown(wait=False, cancel_futures=True)


def engine_of(config: EngineConfig, *, at_once_here: int | None = None) -> Engine:
    """Return the engine that a configuration describes.

    Args:
        config: Where to compute.
        at_once_here: How many jobs this process works on at the same time, if it does; None for what the configuration
            says.

    Raises:
        MissingPackageError: If it is Ray and Ray is not installed.
    """
    if config.kind == RAY:
        from pipeline.takes.ray_engine import RayEngine  # noqa: PLC0415 - an optional package

        return RayEngine(config)
    return LocalEngine(at_once_here or config.num_workers or num_workers())


def _result(future: Future[None]) -> PipelineError | None:
    try:
        future.result()
    except PipelineError as error:
        return error
    return None
