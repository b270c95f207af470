"""Keep pages of notes of libraries off the terminal, but never their last words.

What C++ writes goes past Python's sys.stdout and sys.stderr, so file descriptors are redirected. A process that aborts
meanwhile takes what was held back with it: hence `watched`, which prints the end of it after the process is gone. A
child process for all that is noisy would be clearer, but TensorFlow's import alone takes 5 to 9 seconds on two cores
and 700 MB; the watcher takes 0.03 seconds of another core, and Python's bare interpreter.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from pipeline.processes.last_words import watched

STANDARD_ERROR = 2
STANDARD_STREAMS = (1, STANDARD_ERROR)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Hold back what Python and C++ print meanwhile; print it to standard error after all if an exception is raised.

    If the process dies instead, by an abort or a signal, the last lines are printed all the same. It redirects file
    descriptors of the process, hence holds for all threads at once.
    """
    with tempfile.TemporaryFile() as log:
        try:
            with redirected(log, STANDARD_STREAMS):
                yield
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            raise


@contextlib.contextmanager
def redirected(log: BinaryIO, descriptors: tuple[int, ...]) -> Iterator[None]:
    """Write into a file what goes to file descriptors meanwhile; if the process dies, its last lines are printed.

    Args:
        log: A file of its own, empty.
        descriptors: Of `STANDARD_STREAMS`.
    """
    _flush()
    with watched(log):
        saved = {descriptor: os.dup(descriptor) for descriptor in descriptors}
        try:
            for descriptor in saved:
                os.dup2(log.fileno(), descriptor)
            yield
        finally:
            _flush()
            for descriptor, copy in saved.items():
                os.dup2(copy, descriptor)
                os.close(copy)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
