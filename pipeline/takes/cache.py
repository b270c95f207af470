"""Results of single takes, kept by what they were made from, so that one more take costs one take.

An entry's key is the hash of everything that its content depends on. A result can therefore never depend on whether it
was found here: a missing or damaged entry is computed again, and any entry may be removed at any time.

With `remote` in conf/cache.yaml, machines share entries (see `remote_store`).

`viewfinder cache` tells how large the cache is, and makes room in it.
"""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from pipeline.config.cache import cache_config
from pipeline.errors import PipelineError
from pipeline.files import chunks_of, write_chunks
from pipeline.files.main_project import main_project
from pipeline.files.os_errors import telling_full_disk
from pipeline.takes.remote_store import RemoteStore, remote_store

CACHE_VARIABLE = "VIEWFINDER_CACHE"

_FOLDER = Path(".cache/takes")
_DIGEST_BYTES = 32
_KEY, _KEY_FOLDER = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{2}")
_NUM_FETCHED_AT_ONCE = 8
_TEMPORARY_SECONDS = 24 * 3600  # a temporary file this old belongs to a process that was killed


@dataclass(frozen=True)
class Contents:
    """What a cache holds after room was made in it, and what was removed."""

    num_entries: int
    num_bytes: int
    num_removed: int
    num_removed_bytes: int


class TakeCache:
    """A folder of entries, each behind the SHA-256 of its key and content. Safe for several processes at once.

    Other machines may share them: what is not here is looked for on a remote store, and what is put here goes there.
    """

    def __init__(self, folder: Path, max_bytes: int = sys.maxsize, store: RemoteStore | None = None) -> None:
        """Keep where the cache lies, how large it may be after `make_room`, and whom entries are shared with."""
        self.folder = folder
        self.max_bytes = max_bytes
        self._store = store
        self._sought = set[str]()  # on the store, once each

    def path_of(self, key: str) -> Path:
        """Return where an entry lies or would lie."""
        return self.folder / key[:2] / key

    def get(self, key: str) -> bytes | None:
        """Return an entry's content, or None if there is none or it is damaged (then it is removed)."""
        self.fetch([key])
        path = self.path_of(key)
        try:
            entry = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError:  # something else has its place
            _remove(path)
            return None
        digest, content = entry[:_DIGEST_BYTES], entry[_DIGEST_BYTES:]
        if _digest(key, [content]) != digest:
            _remove(path)
            return None
        with contextlib.suppress(OSError):  # another process may have made room
            os.utime(path)  # the time of last use
        return content

    def put(self, key: str, content: bytes) -> None:
        """Store an entry, whole or not at all.

        Raises:
            PipelineError: If the disk is full or the folder cannot be written.
        """
        self._put(key, [_digest(key, [content]), content], _DIGEST_BYTES + len(content))

    def fetch(self, keys: Iterable[str]) -> None:
        """Bring entries that others have put on the remote store, several at the same time; those that are not there.

        Whether they are whole is found out by whoever reads them.

        Raises:
            PipelineError: If DVC does not know the remote; if the disk is full or the folder cannot be written.
        """
        if not self._store:
            return
        sought = [key for key in keys if key not in self._sought and not self.path_of(key).exists()]
        self._sought.update(sought)
        with ThreadPoolExecutor(_NUM_FETCHED_AT_ONCE) as executor:
            list(executor.map(partial(self._fetch, self._store), sought))

    def _fetch(self, store: RemoteStore, key: str) -> None:
        path = self.path_of(key)
        temporary = path.with_name(f".{key}.{secrets.token_hex(8)}")
        with self._telling_what_is_wrong(), telling_full_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                if store.get_file(key, temporary):
                    temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    def get_file(self, key: str, target: Path) -> bool:
        """Copy an entry's content to a file, chunk by chunk; missing folders are made.

        Args:
            key: The entry's.
            target: What is there is written over. It is not there afterwards if there is no entry or it is damaged.

        Returns:
            Whether the entry was there, whole.
        """
        self.fetch([key])
        path, digest = self.path_of(key), hashlib.sha256(key.encode())
        try:
            with path.open("rb") as file:
                expected = file.read(_DIGEST_BYTES)
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as copy:
                    for chunk in chunks_of(file):
                        digest.update(chunk)
                        copy.write(chunk)
        except FileNotFoundError:
            return False
        except (IsADirectoryError, NotADirectoryError):  # something else has its place
            _remove(path)
            return False
        if digest.digest() != expected:
            target.unlink()
            _remove(path)
            return False
        with contextlib.suppress(OSError):  # another process may have made room
            os.utime(path)  # the time of last use
        return True

    def put_file(self, key: str, source: Path) -> None:
        """Store a file's content as an entry, chunk by chunk, whole or not at all; raises what `put` raises."""
        with source.open("rb") as file:
            digest = _digest(key, chunks_of(file))
            file.seek(0)
            self._put(key, chain([digest], chunks_of(file)), _DIGEST_BYTES + source.stat().st_size)

    def _put(self, key: str, chunks: Iterable[bytes], num_bytes: int) -> None:
        path = self.path_of(key)
        with self._telling_what_is_wrong():
            if path.parent.is_file():
                _remove(path.parent)
            write_chunks(path, chunks, num_bytes)
        if self._store:
            self._store.put_file(key, path)

    @contextlib.contextmanager
    def _telling_what_is_wrong(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise PipelineError(
                found=f"the take cache {self.folder} cannot be written ({error.strerror})",
                expected="a folder of your own to keep results in",
                remedy=f"make it writable, or name another in the environment variable {CACHE_VARIABLE}",
            ) from error

    def make_room(self, keep: Collection[str] = ()) -> Contents:
        """Remove the entries least recently used until no more than `max_bytes` are left.

        Temporary files that killed processes left are removed too. Nothing else is: the folder may hold other things.

        Args:
            keep: Keys of entries that stay in any case.

        Returns:
            What is left and what was removed.
        """
        entries = sorted(self._entries())
        num_bytes = sum(size_bytes for _, size_bytes, _ in entries)
        num_removed = num_removed_bytes = 0
        for _, size_bytes, path in entries:
            if num_bytes - num_removed_bytes <= self.max_bytes:
                break
            if path.name not in keep:
                _remove(path)
                num_removed += 1
                num_removed_bytes += size_bytes
        return Contents(len(entries) - num_removed, num_bytes - num_removed_bytes, num_removed, num_removed_bytes)

    def _entries(self) -> Iterator[tuple[int, int, Path]]:
        """Yield time of last use, size in bytes and path of each entry, and remove old temporary files."""
        folders = (path for path in _within(self.folder) if _KEY_FOLDER.fullmatch(path.name))
        for path in (path for folder in folders for path in _within(folder)):
            with contextlib.suppress(OSError):  # another process may have removed it
                state = path.stat()
                if _KEY.fullmatch(path.name):
                    yield state.st_mtime_ns, state.st_size, path
                elif path.name.startswith(".") and state.st_mtime < time.time() - _TEMPORARY_SECONDS:
                    _remove(path)


def cache_folder() -> Path:
    """Return where results are kept: the folder that VIEWFINDER_CACHE names, or .cache/takes of the main project.

    The checkouts in which DVC runs queued experiments, and the other worktrees of a Git repository, so share one cache.
    """
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else main_project(Path.cwd()) / _FOLDER


def project_cache() -> TakeCache:
    """Return the project's cache, as large as conf/cache.yaml allows.

    Raises:
        PipelineError: If conf/cache.yaml does not hold what it should.
    """
    config = cache_config()
    return TakeCache(cache_folder(), config.max_bytes, remote_store(config.remote) if config.remote else None)


def _digest(key: str, chunks: Iterable[bytes]) -> bytes:
    """Return the hash that an entry begins with. It binds the key: an entry under a wrong name is damaged, too."""
    digest = hashlib.sha256(key.encode())
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()


def _within(folder: Path) -> list[Path]:
    """List a folder; nothing is in it if it is none, or if another process removes it meanwhile."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _remove(path: Path) -> None:
    """Remove a file or a folder, or leave it if that cannot be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
