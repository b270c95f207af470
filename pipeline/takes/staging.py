"""Output folders that appear whole or not at all, whenever the process that fills them is killed."""

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

_NUM_REMOVALS = 10  # a thread amid a take may put one more file into a folder that is being removed


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill, which takes the place of `folder` if all goes well and vanishes if not.

    It lies beside `folder`, so that it takes the name in one step. What killed runs left there is removed first. DVC
    lets no two runs of a stage work at the same time.

    Args:
        folder: The output folder. Until the last moment it stays as it was.

    Yields:
        The folder to fill.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    staging = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    staging.mkdir()
    try:
        yield staging
        _put_in_place(folder, staging)
    finally:
        for _ in range(_NUM_REMOVALS):
            shutil.rmtree(staging, ignore_errors=True)
            if not staging.exists():
                break


def _put_in_place(folder: Path, staging: Path) -> None:
    """Put the finished folder in the old one's place; the old one is out of the way before it is taken apart."""
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
