"""Composes a stage's configuration: conf/<stage>.yaml, then what params.yaml says about it, then the command line."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from pipeline.config.plain import CONF_FOLDER, PARAMS
from pipeline.errors import ConfigurationError, PipelineError

# What Hydra and OmegaConf raise, and YAML when a file in conf/ is none.
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError)

Stage = TypeVar("Stage")
Choices = Mapping[str, Callable[[str], list[str]]]  # groups whose choices mean more than the name of a file

_KEY = re.compile(r"full_key: (\S+)")
_SOURCE = re.compile(r"In '([\w/]+)'")


@dataclass(frozen=True)
class Given:
    """What params.yaml gives a stage.

    Attributes:
        values: Sections and single values that are merged into the configuration.
        overrides: Choices of a file in conf/, in Hydra's form ("backbone=efficientnet_lite0").
    """

    values: dict[str, Any]
    overrides: list[str]


def given(schema: type[Any], params: Mapping[str, Any], arguments: Sequence[str] = ()) -> Given:
    """Pick from params.yaml what a stage takes: the keys that are fields of its dataclass.

    A field that is a dataclass with a folder in conf/ is a choice; one that a command line makes is left to it, and so
    is one item of a list (dvc.yaml's matrix).

    Args:
        schema: The stage's dataclass.
        params: What params.yaml holds.
        arguments: The command line.

    Raises:
        ConfigurationError: If a section holds something else.
    """
    chosen = {argument.partition("=")[0] for argument in arguments}
    types, values, overrides = get_type_hints(schema), dict[str, Any](), list[str]()
    for name in (field.name for field in fields(schema) if field.name in params):
        value = params[name]
        if not is_dataclass(types[name]):
            values[name] = value
        elif (CONF_FOLDER / name).is_dir():
            if name not in chosen and not isinstance(value, list):
                overrides.append(f"{name}={value}")
        elif isinstance(value, Mapping):
            values[name] = dict(value)
        else:
            raise ConfigurationError(
                found=f"{PARAMS}: `{name}: {value}`",
                expected=f"indented lines with the keys {', '.join(field.name for field in fields(types[name]))}",
                remedy=f"correct `{name}` (git diff {PARAMS} shows the old one)",
            )
    return Given(values, overrides)


def register(name: str, schema: type[Any], values: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Make a stage's dataclass known to Hydra as `<name>_schema`, and what params.yaml says as `params`."""
    ConfigStore.instance().store(name=f"{name}_schema", node=schema)
    ConfigStore.instance().store(name="params", node=dict(values))


def composed(
    name: str,
    schema: type[Stage],
    params: Mapping[str, Any],
    arguments: Sequence[str] = (),
    choices: Choices = MappingProxyType({}),
) -> Stage:
    """Return the configuration that a stage's command would run on, for one who does not start the command.

    Args:
        name: Of the stage.
        schema: Its dataclass.
        params: What params.yaml holds.
        arguments: As on a command line.
        choices: See `application.run_stage`.

    Raises:
        PipelineError: If a key is unknown or missing, or a value has the wrong type or is out of its range.
    """
    chosen = given(schema, params, arguments)
    try:
        register(name, schema, chosen.values)
        with initialize_config_dir(str(CONF_FOLDER), version_base="1.3"):
            return typed(compose(name, expanded([*chosen.overrides, *arguments], choices)))  # type: ignore[no-any-return]
    except COMPOSITION_ERRORS as error:
        raise refusal(error, name, schema, params) from error


def typed(config: DictConfig) -> Any:
    """Turn a composed configuration into its dataclass, whose `__post_init__` checks the ranges.

    Raises:
        ConfigurationError: If a value is missing, or out of its range.
    """
    try:
        return OmegaConf.to_object(config)
    except MissingMandatoryValue as error:
        raise ConfigurationError(
            found=f"no value for `{error.full_key}`",
            expected="a value for every key",
            remedy=f"give it in params.yaml, or on the command line as {error.full_key}=...",
        ) from error


def expanded(arguments: Sequence[str], choices: Choices) -> list[str]:
    """Replace each `<group>=<choice>` by the overrides that it stands for, and leave all else as it is.

    Raises:
        ConfigurationError: If a choice means nothing.
    """
    found = []
    for argument in arguments:
        group, _, choice = argument.partition("=")
        found += choices[group](choice) if group in choices else [argument]
    return found


def refusal(error: Exception, name: str, schema: type[Any], params: Mapping[str, Any]) -> PipelineError:
    """Tell what Hydra or OmegaConf found wrong with a stage's configuration.

    Args:
        error: One of `COMPOSITION_ERRORS`.
        name: Of the stage.
        schema: Its dataclass.
        params: What params.yaml holds.
    """
    text = "\n".join(_texts(error))
    key = match[1] if (match := _KEY.search(text)) else ""
    source = _source(text, name, key, params)
    field = _field(schema, key)
    if key and field is None:
        known = _keys_of(schema, key.rpartition(".")[0])
        return ConfigurationError(
            found=f"{source}: unknown key `{key}`",
            expected=f"one of {', '.join(known)}",
            remedy=f"correct or remove `{key.rpartition('.')[2]}`",
        )
    if key:
        value = _value_at(params, key)
        shown = f"`{key}: {value}`" if value is not None and source == str(PARAMS) else _first_line(text)
        return ConfigurationError(
            found=f"{source}: {shown}" if key in shown else f"{source}: `{key}`: {shown}",
            expected=f"a value of type {_type_name(field)}",
            remedy="correct the value",
        )
    return ConfigurationError(
        found=f"the configuration of `{name}` does not compose: {_first_line(text)}",
        expected=f"what conf/{name}.yaml and {PARAMS} allow",
        remedy=f"correct the command line or the file that is named (git diff conf {PARAMS} shows what changed)",
    )


def _texts(error: BaseException | None) -> list[str]:
    """Return the messages of an error and of those that it comes from."""
    return [] if error is None else [str(error), *_texts(error.__cause__)]


def _source(text: str, name: str, key: str, params: Mapping[str, Any]) -> str:
    """Return which file, or the command line, says what cannot be merged."""
    found = match[1] if (match := _SOURCE.search(text)) else ""
    if "verrid" in text.splitlines()[0]:
        return "command line"
    if found == "params" or (not found and _value_at(params, key) is not None):
        return str(PARAMS)
    return f"conf/{found or name}.yaml"


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "raised while composing" not in line), "no reason given")


def _field(schema: type[Any], key: str) -> Any:
    """Return the type of a key such as `frames.width` in a dataclass, or None if there is no such key."""
    found: Any = schema
    for part in key.split("."):
        found = get_type_hints(found).get(part) if is_dataclass(found) else None
    return found


def _keys_of(schema: type[Any], section: str) -> list[str]:
    found = _field(schema, section) if section else schema
    return [field.name for field in fields(found)] if is_dataclass(found) else []


def _type_name(found: Any) -> str:
    return "mapping (indented lines)" if is_dataclass(found) else getattr(found, "__name__", str(found))


def _value_at(values: Mapping[str, Any], key: str) -> object:
    found: object = values
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
