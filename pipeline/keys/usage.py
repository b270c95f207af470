"""Which local modules and which libraries a module makes use of, directly or not."""

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import grimp

from pipeline.errors import ConfigurationError
from pipeline.keys.digests import digest_of_source

PACKAGE = "pipeline"


@dataclass(frozen=True)
class Usage:
    """What a module makes use of.

    Attributes:
        modules: Local modules, itself among them, each with the digest of its source; sorted.
        libraries: Top-level names that other packages are imported by, without the standard library; sorted.
    """

    modules: tuple[tuple[str, str], ...]
    libraries: tuple[str, ...]


@cache
def usage_of(*names: str) -> Usage:
    """Follow the imports of some modules, wherever in a file they stand, through the whole package.

    An import runs the `__init__` of each package above a module, so these are among what is used. A module that is
    imported by a name made at run time, such as `import_module(f"pipeline.config.{stage}")`, counts as all modules
    whose names begin like that.

    Args:
        names: Full names such as "pipeline.frames".

    Raises:
        ConfigurationError: If a module is not there or is no Python.
    """
    found, waiting, libraries = dict[str, str](), list(names), set[str]()
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = _module(name).digest
        imported = _module(name).imported
        waiting += [other for other in imported if _is_local(other)]
        waiting += _packages_above(name)
        libraries |= {other.split(".")[0] for other in imported if not _is_local(other)}
    return Usage(tuple(sorted(found.items())), tuple(sorted(libraries - sys.stdlib_module_names)))


def modules() -> list[str]:
    """Return the names of all local modules, sorted."""
    return sorted(name for name in _graph().modules if _is_local(name))


@dataclass(frozen=True)
class _Module:
    """What is known of a module by itself: its digest, and what it imports."""

    digest: str
    imported: frozenset[str]


@cache
def _module(name: str) -> _Module:
    path = _path_of(name)
    try:
        source = path.read_text(encoding="utf-8")
        digest = digest_of_source(source)
    except (OSError, ValueError, SyntaxError) as error:
        raise _unreadable(str(path), error) from error
    imported = _graph().find_modules_directly_imported_by(name)
    return _Module(digest, frozenset({*imported, *_named_at_run_time(source)}))


def _unreadable(path: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        found=f"{path} cannot be read as Python ({error})",
        expected="the code of the pipeline",
        remedy=f"correct it (`git diff` shows what changed), or bring it back: git checkout {PACKAGE}/",
    )


def _named_at_run_time(source: str) -> Iterator[str]:
    """Yield the modules that calls of `import_module` with a name that begins with a constant may mean."""
    for node in ast.walk(ast.parse(source)) if "import_module" in source else ():
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            first = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            prefix = first.value if isinstance(first, ast.Constant) else None
            if isinstance(prefix, str) and prefix.startswith(f"{PACKAGE}."):
                yield from (name for name in modules() if name.startswith(prefix))


def _packages_above(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _is_local(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] == PACKAGE


def _path_of(name: str) -> Path:
    folder = package_folder().joinpath(*name.split(".")[1:])
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def package_folder() -> Path:
    """Return where the package lies that this process runs."""
    spec = find_spec(PACKAGE)
    locations: Iterable[str] = spec.submodule_search_locations or () if spec else ()
    return Path(next(iter(locations)))


@cache
def _graph() -> grimp.ImportGraph:
    try:
        return grimp.build_graph(PACKAGE, include_external_packages=True, cache_dir=None)
    except grimp.exceptions.SourceSyntaxError as error:
        raise _unreadable(str(error.filename), error) from error
