"""Results of single takes, kept by what they were made from, so that one more take costs one take.

An entry's key is the hash of everything that its content depends on. A result can therefore never depend on whether it
was found here: a missing or damaged entry is computed again.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.files import write_bytes

CACHE_FOLDER = Path(".cache/takes")

_DIGEST_BYTES = 32


def key_of(parts: Mapping[str, object]) -> str:
    """Return the hash of names and values that can be written as JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class TakeCache:
    """A folder of entries, each stored behind the SHA-256 of its content. Safe for several processes at once."""

    def __init__(self, folder: Path = CACHE_FOLDER) -> None:
        self._folder = folder

    def path_of(self, key: str) -> Path:
        """Return where an entry lies or would lie."""
        return self._folder / key[:2] / key

    def get(self, key: str) -> bytes | None:
        """Return an entry's content, or None if there is none or it is damaged (then it is removed)."""
        path = self.path_of(key)
        try:
            entry = path.read_bytes()
        except OSError:
            return None
        digest, content = entry[:_DIGEST_BYTES], entry[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            path.unlink(missing_ok=True)
            return None
        os.utime(path)  # the time of last use, for whoever wants to make room
        return content

    def put(self, key: str, content: bytes) -> None:
        """Store an entry, whole or not at all."""
        write_bytes(self.path_of(key), hashlib.sha256(content).digest() + content)
