"""How many takes, and frames of them, are worked on at the same time."""

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_of_thread = threading.local()  # `frames`: the executor that works frame by frame for the take of this thread


def num_workers() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def lend(executor: Executor) -> None:
    """Let takes that this thread works on use an executor for their frames."""
    _of_thread.frames = executor


def map_frames(function: Callable[[Item], Result], frames: Iterable[Item]) -> list[Result]:
    """Apply a function to each frame of a take and return the results in order.

    Frames are worked on at the same time if an executor is lent to this thread. So the last take, or the only new one,
    does not leave processors idle.

    Args:
        function: Works on one frame; what takes time in it (decoding, resampling, inference) releases Python's lock.
        frames: The frames of one take; all results are held in memory.
    """
    executor: Executor | None = getattr(_of_thread, "frames", None)
    return list((executor.map if executor else map)(function, frames))
