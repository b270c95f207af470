"""Packages of npm, without npm: downloaded once, compared with their hash, read from their archive."""

import base64
import hashlib
import io
import tarfile
import urllib.request
from http.client import HTTPException
from pathlib import Path

from pipeline.config.try_page import PackageConfig
from pipeline.errors import InputError, PipelineError
from pipeline.files import write_bytes
from pipeline.processes.progress import counted

_TIMEOUT_SECONDS = 60
_CHUNK_BYTES = 1 << 20


def archive_of(package: PackageConfig, registry: str, folder: Path) -> bytes:
    """Return a package's archive (.tgz), from a folder, or else from the registry; then it is kept in the folder.

    Args:
        package: Which one.
        registry: Address of a registry, as npm knows it.
        folder: Where archives are kept, each as <scope>-<name>-<version>.tgz, the name that `npm pack` gives it.

    Raises:
        PipelineError: If it cannot be downloaded, or is another one than the hash says.
    """
    path = folder / f"{package.name.removeprefix('@').replace('/', '-')}-{package.version}.tgz"
    content = path.read_bytes() if path.is_file() else b""
    if _integrity(content) == package.integrity:
        return content
    address = f"{registry.rstrip('/')}/{package.name}/-/{package.name.partition('/')[2]}-{package.version}.tgz"
    content = _downloaded(address, package, path)
    if _integrity(content) != package.integrity:
        raise InputError(
            found=f"{address} is another archive than conf/try.yaml says ({_integrity(content)})",
            expected=package.integrity,
            remedy="try again; if it stays so, do not trust that registry",
        )
    write_bytes(path, content)
    return content


def files_of(archive: bytes) -> dict[str, bytes]:
    """Return the files of a package by their path in it, such as `dist/index.js`."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None:
                found[member.name.partition("/")[2]] = file.read()
    return found


def _downloaded(address: str, package: PackageConfig, path: Path) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as answer:
            num_chunks = -(-int(answer.headers.get("Content-Length") or _CHUNK_BYTES) // _CHUNK_BYTES)
            chunks = iter(lambda: answer.read(_CHUNK_BYTES), b"")
            return b"".join(counted(chunks, f"download {package.name}", total=num_chunks, unit="MiB", leave=False))
    except (OSError, ValueError, HTTPException) as error:
        raise PipelineError(
            found=f"{address} cannot be downloaded ({error})",
            expected=f"a connection, once; or the archive at {path}",
            remedy=f"connect and try again, or run `npm pack {package.name}@{package.version}` where there is one",
        ) from error


def _integrity(content: bytes) -> str:
    return f"sha512-{base64.b64encode(hashlib.sha512(content).digest()).decode()}"
