"""Reads single files of conf/ that Hydra does not compose: what they say changes no result."""

from pathlib import Path
from typing import TypeVar, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.config.application import CONF_FOLDER
from pipeline.errors import PipelineError

Values = TypeVar("Values")


def read_plain(name: str, schema: type[Values]) -> Values:
    """Read conf/<name> into a dataclass, whose `__post_init__` checks the ranges.

    Raises:
        PipelineError: If the file is missing or no YAML, a key is unknown or missing, or a value has the wrong type or
            is out of its range.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), load(CONF_FOLDER / name))
        return cast(Values, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        known = ", ".join(OmegaConf.structured(schema))
        raise PipelineError(
            found=f"conf/{name}: {str(error).splitlines()[0]}",
            expected=f"the keys {known}, each with a value of its type",
            remedy=f"correct conf/{name} (git diff conf/{name} shows the old one)",
        ) from error


def load(path: Path) -> dict[str, object]:
    """Read a YAML file that holds keys and values.

    Raises:
        PipelineError: If it is missing or something else.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        found = error
    if not isinstance(found, dict):
        raise PipelineError(
            found=f"{path.name} holds no keys and values ({found})",
            expected="`key: value` lines",
            remedy=f"correct it (git diff {path.name} shows the old one)",
        )
    return found
