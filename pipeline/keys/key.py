"""Keys of results: hashes of all that a result depends on."""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pipeline.keys.libraries import installed_versions
from pipeline.keys.usage import usage_of


def key_of(compute: Callable[..., Any], depends_on: Mapping[str, object]) -> str:
    """Return the key of what a function gives.

    It holds the digest of the code that the function really uses, that of the module which defines it, and the versions
    of the libraries which this code imports, so nobody has to remember to name them.

    Args:
        compute: A function or method of a module of the pipeline, or a `functools.partial` of one.
        depends_on: Whatever else the result depends on: settings, hashes of the bytes that are read. Names and values
            that can be written as JSON.

    Returns:
        64 hexadecimal digits.
    """
    usage = usage_of(module_of(compute))
    parts = {
        "function": name_of(compute),
        "code": usage.modules,
        "libraries": versions_for(compute),
        "depends_on": depends_on,
    }
    return hash_of(parts)


def versions_for(compute: Callable[..., Any]) -> dict[str, str]:
    """Return the version of each library whose version a key holds, by its distribution."""
    return installed_versions(usage_of(module_of(compute)).libraries)


def hash_of(parts: Mapping[str, object]) -> str:
    """Return the hash of names and values that can be written as JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def module_of(compute: Callable[..., Any]) -> str:
    """Return the full name of the module that defines a function."""
    return str(_function(compute).__module__)


def name_of(compute: Callable[..., Any]) -> str:
    """Return the name of a function within its module."""
    return str(_function(compute).__qualname__)


def _function(compute: Callable[..., Any]) -> Callable[..., Any]:
    return _function(compute.func) if isinstance(compute, partial) else compute
