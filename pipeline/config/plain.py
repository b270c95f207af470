"""Reads params.yaml, and single files of conf/ that Hydra does not compose: what these say changes no result."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from pipeline.errors import ConfigurationError

CONF_FOLDER = Path(__file__).resolve().parents[2] / "conf"
PARAMS = Path("params.yaml")

Values = TypeVar("Values")


def read_plain(name: str, schema: type[Values]) -> Values:
    """Read conf/<name> into a dataclass, whose `__post_init__` checks the ranges.

    Raises:
        ConfigurationError: If the file is missing or no YAML, a key is unknown or missing, or a value has the wrong
            type or is out of its range.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), load(CONF_FOLDER / name))
        return cast(Values, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        known = ", ".join(OmegaConf.structured(schema))
        raise ConfigurationError(
            found=f"conf/{name}: {str(error).splitlines()[0]}",
            expected=f"the keys {known}, each with a value of its type",
            remedy=f"correct conf/{name} (git diff conf/{name} shows the old one)",
        ) from error


def load(path: Path) -> dict[str, object]:
    """Read a YAML file that holds keys and values, as DVC reads it: YAML 1.2, in UTF-8, each key once.

    Raises:
        ConfigurationError: If it is missing or something else.
    """
    try:
        found = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(
            found=f"no {path} here",
            expected="the project's folder",
            remedy=f"change into the folder that holds {path.name}, or bring it back: git checkout {path.name}",
        ) from error
    except DuplicateKeyError as error:
        raise _wrong(path, f"holds a key twice ({_place(error)})", "each key once", "remove one of the two") from error
    except UnicodeDecodeError as error:
        raise _wrong(path, f"is not UTF-8 ({error})", "text in UTF-8", "save it in that encoding") from error
    except (OSError, ValueError, YAMLError) as error:
        raise _wrong(path, f"is no valid YAML: {error}", "`key: value` lines", "correct that line") from error
    if not isinstance(found, dict):
        raise _wrong(path, f"holds {type(found).__name__}", "`key: value` lines", "correct it")
    try:
        for key, value in leaves(found).items():
            if "${" in str(value):
                expected = "a value: DVC takes the text as it stands, and would not see another value behind it"
                raise _wrong(path, f"holds `{key}: {value}`", expected, f"write the value of `{key}` itself")
    except RecursionError as error:
        raise _wrong(path, "holds a section within itself", "sections within sections", "correct it") from error
    return found


def leaves(values: Mapping[str, object], above: str = "") -> dict[str, object]:
    """Return every value that is no section itself by its full name, such as `frames.width`."""
    found: dict[str, object] = {}
    for key, value in values.items():
        found |= leaves(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return found


def _wrong(path: Path, found: str, expected: str, remedy: str) -> ConfigurationError:
    tracked = path.relative_to(CONF_FOLDER.parent) if path.is_relative_to(CONF_FOLDER.parent) else path
    return ConfigurationError(
        found=f"{tracked} {found}", expected=expected, remedy=f"{remedy} (git diff {tracked} shows the old one)"
    )


def _place(error: DuplicateKeyError) -> str:
    problem = str(error.problem).partition(" with value")[0]
    return f"{problem}, line {error.problem_mark.line + 1}"
