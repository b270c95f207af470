"""Versions of the libraries whose output a cached result holds."""

from importlib.metadata import version


def versions(*distributions: str) -> dict[str, str]:
    """Return the installed version of each distribution; another version may give other bytes."""
    return {name: version(name) for name in distributions}
