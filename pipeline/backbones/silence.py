"""Keep TensorFlow's pages of notes off the terminal."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

_DESCRIPTORS = (1, 2)  # standard output and error, where C++ writes past Python's sys.stdout and sys.stderr


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Hold back what Python and C++ print meanwhile; print it to standard error after all if an exception is raised.

    It redirects file descriptors of the process, hence holds for all threads at once.
    """
    with tempfile.TemporaryFile() as log:
        try:
            with _redirected(log.fileno()):
                yield
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            raise


@contextlib.contextmanager
def _redirected(target: int) -> Iterator[None]:
    _flush()
    saved = {descriptor: os.dup(descriptor) for descriptor in _DESCRIPTORS}
    try:
        for descriptor in saved:
            os.dup2(target, descriptor)
        yield
    finally:
        _flush()
        for descriptor, copy in saved.items():
            os.dup2(copy, descriptor)
            os.close(copy)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
