"""A full disk, told as what it is."""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import PipelineError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def telling_full_disk(path: Path, num_bytes: int | None = None) -> Iterator[None]:
    """Turn "no space left on device" into an error that a person can mend; all other errors pass.

    Args:
        path: What is being written, as a person knows it.
        num_bytes: Its size, if it is known.

    Raises:
        PipelineError: If the disk, or the user's share of it, is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise PipelineError(
            found=f"no space left on the disk while writing {path} ({_megabytes(_free_bytes(path))} free)",
            expected=f"{_megabytes(num_bytes)} for it" if num_bytes else "room for what the stage writes",
            remedy="make room (`make cache-gc`, `dvc gc --workspace`), run `dvc repro` again: finished takes are kept",
        ) from error


def _free_bytes(path: Path) -> int:
    """Return what is left on the disk that a path lies on, whether or not it exists."""
    return shutil.disk_usage(next(parent for parent in [path, *path.absolute().parents] if parent.exists())).free


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"
