"""Engines: what computes takes. The same takes give the same bytes on each; params.yaml names one as `engine:`."""

from collections.abc import Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Protocol, TypeAlias

from pipeline.config.engine import RAY, EngineConfig
from pipeline.errors import PipelineError
from pipeline.takes.jobs import TakeJob
from pipeline.takes.workers import lend, num_workers

Outcome: TypeAlias = tuple[TakeJob, bytes | PipelineError]


class Engine(Protocol):
    """Computes takes somewhere."""

    def run(self, jobs: Iterable[TakeJob]) -> Generator[Outcome, None, None]:
        """Yield each job with its content, or with what is wrong with its take, in any order.

        Only few jobs are begun ahead of the caller, so that few results are in memory at a time. Closing the iterator
        gives up all the others without waiting for them.
        """


class LocalEngine:
    """Computes takes in threads of this process: some each lead a take, as many others work on frames for them."""

    def __init__(self, num_workers: int) -> None:
        """Keep how many takes, and how many frames, are computed at the same time, at least 1."""
        self._num_workers = num_workers

    def run(self, jobs: Iterable[TakeJob]) -> Generator[Outcome, None, None]:
        """See `Engine.run`. A thread amid a take cannot be stopped: whoever is in a hurry must end the process."""
        waiting, begun = iter(jobs), dict[Future[bytes], TakeJob]()
        frames = ThreadPoolExecutor(self._num_workers)
        executor = ThreadPoolExecutor(self._num_workers, initializer=lend, initargs=(frames,))
        try:
            while True:
                for job in islice(waiting, 2 * self._num_workers - len(begun)):
                    begun[executor.submit(job.content)] = job
                if not begun:
                    return
                for future in wait(begun, return_when=FIRST_COMPLETED).done:
                    yield begun.pop(future), _result(future)
        finally:
            for pool in (executor, frames):
                pool.shutdown(wait=False, cancel_futures=True)


def engine_of(config: EngineConfig) -> Engine:
    """Return the engine that a configuration describes.

    Raises:
        MissingPackageError: If it is Ray and Ray is not installed.
    """
    if config.kind == RAY:
        from pipeline.takes.ray_engine import RayEngine  # noqa: PLC0415 - an optional package

        return RayEngine(config)
    return LocalEngine(config.num_workers or num_workers())


def _result(future: Future[bytes]) -> bytes | PipelineError:
    try:
        return future.result()
    except PipelineError as error:
        return error
