"""Output folders that appear whole or not at all, whenever the process that fills them is killed."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import PipelineError


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill, which takes the place of `folder` if all goes well and vanishes if not.

    It lies beside `folder`, so that it takes the name in one step. What killed runs left there is removed first.

    Args:
        folder: The output folder. Until the last moment it stays as it was.

    Yields:
        The folder to fill.

    Raises:
        PipelineError: If another process is filling the same output folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        _remove_leftovers(folder)
        staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_prefix(folder)))
        try:
            yield staging
            _put_in_place(folder, staging)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _put_in_place(folder: Path, staging: Path) -> None:
    """Put the finished folder in the old one's place; the old one is out of the way before it is taken apart."""
    staging.chmod(0o755)  # mkdtemp gives 0700, which other users of a shared project cannot read
    old = staging.with_name(f"{staging.name}.old")
    try:
        if folder.exists():
            folder.rename(old)
        staging.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    """Remove the folders beside `folder` that killed runs were filling or taking apart."""
    for path in folder.parent.iterdir():
        if path.name.startswith(_prefix(folder)) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Be the only process that fills a folder. The system gives up the lock however the process ends."""
    path = folder.parent / f"{_prefix(folder)}lock"
    while not _is_file(descriptor := _locked_file(path, folder), path):
        os.close(descriptor)  # whoever had the lock has removed the file meanwhile
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked_file(path: Path, folder: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise PipelineError(
            found=f"another process is filling {folder}",
            expected="one run of a stage at a time",
            remedy="wait until it has ended, or stop it, then run `dvc repro` again",
        ) from error
    return descriptor


def _is_file(descriptor: int, path: Path) -> bool:
    """Tell whether an open file is still the one with this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _prefix(folder: Path) -> str:
    return f".{folder.name}."
