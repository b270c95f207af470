"""Results of takes on the store of a DVC remote: machines that share it share takes, and not only whole stages.

DVC's file systems do it, with the address and the keys that `dvc remote` knows. An entry is what lies in the take
cache, behind the hash of its key and content, so that whoever reads it finds damage. The store only saves time: one
that cannot be reached is told once, and then left alone until the process ends.
"""

import sys
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigurationError, MissingPackageError

_FOLDER = "takes"  # beside DVC's own files/


class RemoteStore:
    """The folder takes/ of a DVC remote. Safe for several threads."""

    def __init__(self, name: str) -> None:
        """Keep the name of the remote, as `dvc remote list` shows it. Nothing is opened before it is needed."""
        self._name = name
        self._is_lost = False

    def get_file(self, key: str, target: Path) -> bool:
        """Copy an entry to a file.

        Args:
            key: The entry's.
            target: May hold a part of it, or nothing, if the answer is no.

        Returns:
            Whether it was there, and the store could be reached.

        Raises:
            ConfigurationError: If DVC knows no remote of that name, or lacks the package for its kind.
        """
        system, folder = self._opened
        if self._is_lost:
            return False
        try:
            system.get_file(system.join(folder, key[:2], key), str(target))
        except FileNotFoundError:
            return False
        except Exception as error:  # each kind of store raises kinds of its own
            self._lose(error)
            return False
        return True

    def put_file(self, key: str, source: Path) -> None:
        """Copy a file to an entry, if the store can be reached; raises what `get_file` raises."""
        system, folder = self._opened
        if self._is_lost:
            return
        try:
            system.put_file(str(source), system.join(folder, key[:2], key))
        except Exception as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        if not self._is_lost:
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            sys.stderr.write(
                f"takes are not shared: the remote `{self._name}` cannot be used ({reason}); going on without it\n"
            )
        self._is_lost = True

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """Return DVC's file system, and the folder in it."""
        # Half a second, for those who share takes.
        from dvc.config import Config, RemoteNotFoundError  # type: ignore[import-untyped]  # noqa: PLC0415
        from dvc.fs import get_cloud_fs  # type: ignore[import-untyped]  # noqa: PLC0415
        from dvc_objects.fs.errors import RemoteMissingDepsError  # noqa: PLC0415

        config = Config.from_cwd()
        try:
            kind, settings, path = get_cloud_fs(config, name=self._name)
            system = kind(**settings)
            return system, system.join(path, _FOLDER)
        except RemoteNotFoundError as error:
            raise ConfigurationError(
                found=f"conf/cache.yaml: `remote: {self._name}`, which DVC does not know",
                expected=f"one of {', '.join(config['remote'])}" if config["remote"] else "the name of a DVC remote",
                remedy="name one that `dvc remote list` shows, add it with `dvc remote add`, or leave it empty",
            ) from error
        except (ImportError, RemoteMissingDepsError) as error:
            raise MissingPackageError(
                found=f"conf/cache.yaml: `remote: {self._name}`, for which DVC lacks a package ({error})",
                expected="the package for its kind of store: dvc-s3, dvc-gs, dvc-azure, dvc-ssh, ...",
                remedy="install it with pip, or leave `remote` empty",
            ) from error


@cache
def remote_store(name: str) -> RemoteStore:
    """Return the store of a remote, the same for the whole process, so that its loss is told once."""
    return RemoteStore(name)
