"""What DVC keeps of a stage's last run: whoever pulled it, or cleaned up behind it, computes none of its takes again.

DVC removes a stage's outputs before it runs. Their contents stay in DVC's cache, and dvc.lock names them by hash. A
stage that works take by take has one output more, which no stage reads: the key of each of its tables. By it a result
is found whose entry the take cache does not have: it was made elsewhere, and came with `dvc pull`.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from pipeline.files import chunks_of

_LOCK = Path("dvc.lock")


class LastRun:
    """The tables of a stage's last run that DVC's cache holds, by key."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        """Keep where each table lies.

        Args:
            paths: By key. A file's name in DVC's cache is its MD5, the first two digits being its folder.
        """
        self._paths = paths

    @classmethod
    def of(cls, folder: Path, keys: Path) -> "LastRun":
        """Look up what dvc.lock says of two outputs of a stage; there is nothing where it says nothing.

        Args:
            folder: The output whose tables are sought.
            keys: The output that names the key of each.
        """
        if not _LOCK.is_file():
            return cls({})
        try:
            outputs = _outputs(yaml.load(_LOCK.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
            store = _dvc_cache()
            listing = json.loads(_path_of(store, outputs[str(folder)]).read_bytes())
            key_of = json.loads(_path_of(store, outputs[str(keys)]).read_bytes())
            return cls({key_of[file["relpath"]]: _path_of(store, file["md5"]) for file in listing})
        except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
            return cls({})  # not pulled, or written by another version: computing is always right

    def get_file(self, key: str, target: Path) -> bool:
        """Copy a table, and make sure that it is what DVC once stored.

        Args:
            key: The table's.
            target: What is there is written over; missing folders are made.

        Returns:
            Whether it was there. If not, nothing is at `target`.
        """
        path = self._paths.get(key)
        if path is None:
            return False
        digest = hashlib.md5(usedforsecurity=False)  # DVC's choice
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError), path.open("rb") as file, target.open("wb") as copy:
            for chunk in chunks_of(file):
                digest.update(chunk)
                copy.write(chunk)
        if digest.hexdigest() == path.parent.name + path.name:
            return True
        target.unlink(missing_ok=True)
        return False


def _outputs(lock: Mapping[str, Any]) -> dict[str, str]:
    """Return the hash of each output, by its path."""
    outputs = [output for stage in lock["stages"].values() for output in stage.get("outs", ())]
    return {output["path"]: output["md5"] for output in outputs if output.get("hash") == "md5"}


def _dvc_cache() -> Path:
    """Return the folder that DVC's configuration names, or `.dvc/cache/files/md5`."""
    # A third of a second, for those who miss something.
    from dvc.exceptions import DvcException  # type: ignore[import-untyped]  # noqa: PLC0415
    from dvc.repo import Repo  # type: ignore[import-untyped]  # noqa: PLC0415

    try:
        return Path(Repo().cache.local.path)
    except DvcException as error:
        raise LookupError("no DVC project") from error


def _path_of(store: Path, md5: str) -> Path:
    return store / md5[:2] / md5[2:]
