"""How many takes, and frames of them, are worked on at the same time."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_NUM_AHEAD = 4  # frames of a take that are begun for each processor

_of_thread = threading.local()  # `frames`: the executor that works frame by frame for the take of this thread


def num_workers() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def lend(executor: Executor) -> None:
    """Let takes that this thread works on use an executor for their frames."""
    _of_thread.frames = executor


def map_frames(function: Callable[[Item], Result], frames: Iterable[Item]) -> Iterator[Result]:
    """Apply a function to each frame of a take and yield the results in order.

    Frames are worked on at the same time if an executor is lent to this thread. So the last take, or the only new one,
    does not leave processors idle.

    Args:
        function: Works on one frame; what takes time in it (decoding, resampling, inference) releases Python's lock.
        frames: The frames of one take. Few are taken, and few results wait, ahead of the caller.
    """
    executor: Executor | None = getattr(_of_thread, "frames", None)
    if executor is None:
        yield from map(function, frames)
        return
    begun, num_ahead = deque[Future[Result]](), _NUM_AHEAD * num_workers()
    try:
        for frame in frames:
            begun.append(executor.submit(function, frame))
            if len(begun) > num_ahead:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        for future in begun:
            future.cancel()
