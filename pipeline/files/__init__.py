"""Files that appear whole or not at all, and hashes of them."""

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.files.os_errors import telling_full_disk

_CHUNK_BYTES = 1 << 20
_MODE = 0o666  # less what the umask takes away, as for any other file that a person makes


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees all of it or nothing of it.

    The content goes to a temporary file in the same folder, which then takes the name in one step.
    Missing folders are made.

    Raises:
        PipelineError: If the disk is full.
    """
    write_chunks(path, [content], len(content))


def write_chunks(path: Path, chunks: Iterable[bytes], num_bytes: int | None = None) -> None:
    """Write a file as `write_bytes` does, of which memory need not hold all.

    Args:
        path: The file.
        chunks: Its content, in order. If they end in an error, the file stays as it was.
        num_bytes: Of all of them together, if that is known; a full disk is told with it.

    Raises:
        PipelineError: If the disk is full.
    """
    with telling_full_disk(path, num_bytes):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(8)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(chunks)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    write_bytes(path, content.encode())


def sha256_of_bytes(content: bytes) -> str:
    """Return the SHA-256 of some bytes as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hexadecimal digits, reading 1 MiB at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in chunks_of(file):
            digest.update(chunk)
    return digest.hexdigest()


def chunks_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield what is left of an open file, 1 MiB at a time."""
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk
