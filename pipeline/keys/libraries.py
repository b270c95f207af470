"""Versions of the libraries that code makes use of: those that are installed, and those that the lock files name."""

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Where a distribution is not called like what is imported from it.
DISTRIBUTIONS: Mapping[str, str] = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "google": "protobuf",
    "hydra": "hydra-core",
    "ruamel": "ruamel-yaml",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
NOT_INSTALLED = "not installed"

# Distributions that write over each other's files: who has several runs the one that was installed last.
_SAME_FOLDER: Mapping[str, tuple[str, ...]] = {"opencv-python-headless": ("opencv-python", "opencv-contrib-python")}

_PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)==(\S+)(?: ; ([^\\\n]+))?", re.MULTILINE)


def distribution_of(imported: str) -> str:
    """Return the name of the distribution that a top-level name is imported from, as lock files write it."""
    return DISTRIBUTIONS.get(imported, imported.replace("_", "-").lower())


def installed_versions(imported: Iterable[str]) -> dict[str, str]:
    """Return the version of each library that runs here, by its distribution; another may give other bytes."""
    return {name: _installed(name) for name in sorted(map(distribution_of, imported))}


def locked_versions(imported: Iterable[str], locks: Iterable[Path]) -> dict[str, list[str]]:
    """Return what lock files say of each library, by its distribution.

    Args:
        imported: Top-level names.
        locks: Files in the form of requirements, each pin at the beginning of a line.

    Returns:
        Sorted versions, each with the condition it stands under if it has one ("2.4.6 ; python_full_version < '3.12'"),
        so that all machines agree. None for a library that no lock names, such as one of an extra.
    """
    pins: dict[str, set[str]] = {}
    for lock in locks:
        for name, pinned, condition in _PIN.findall(lock.read_text(encoding="utf-8")):
            pins.setdefault(name, set()).add(f"{pinned} ; {condition.strip()}" if condition else pinned)
    names = sorted(map(distribution_of, imported))
    return {name: sorted(pins[name]) for name in names if name in pins}


def _installed(distribution: str) -> str:
    found = {name: _version(name) for name in (distribution, *_SAME_FOLDER.get(distribution, ()))}
    others = [f" and {name} {found[name]}" for name in found if name != distribution and found[name] != NOT_INSTALLED]
    return found[distribution] + "".join(others)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return NOT_INSTALLED
