"""What the system says when a file cannot be read or written, told as what it is."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import FullDiskError, PipelineError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def telling_full_disk(path: Path, num_bytes: int | None = None) -> Iterator[None]:
    """Turn "no space left on device" into an error that a person can mend; all other errors pass.

    Args:
        path: What is being written, as a person knows it.
        num_bytes: Its size, if it is known.

    Raises:
        FullDiskError: If the disk, or the user's share of it, is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise FullDiskError(
            found=f"no space left on the disk while writing {path} ({_megabytes(_free_bytes(path))} free)",
            expected=f"{_megabytes(num_bytes)} for it" if num_bytes else "room for what the stage writes",
            remedy="make room (`make cache-gc`, `dvc gc --workspace`), run `dvc repro` again: finished takes are kept",
        ) from error


@contextlib.contextmanager
def telling_os_errors(path: Path) -> Iterator[None]:
    """Turn whatever the system refuses into an error that a person can mend. Used once, around a whole stage.

    Args:
        path: The folder that is worked in.

    Raises:
        FullDiskError: If the disk is full.
        PipelineError: If a file is missing or may not be read or written, or the system refuses something else.
    """
    try:
        with telling_full_disk(path):
            yield
    except OSError as error:
        if error.errno is None:  # no answer of the system: a library's own use of the class
            raise
        name = f" {os.fsdecode(error.filename)}" if error.filename is not None else ""
        raise PipelineError(
            found=f"the system refused{name}: {error.strerror} (error {error.errno})",
            expected="files that are there and may be read, folders that may be written",
            remedy="see that it is there and whose it is (ls -l); what a stage wrote comes back by `dvc repro`",
        ) from error


def _free_bytes(path: Path) -> int:
    """Return what is left on the disk that a path lies on, whether or not it exists."""
    return shutil.disk_usage(next(parent for parent in [path, *path.absolute().parents] if parent.exists())).free


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"
