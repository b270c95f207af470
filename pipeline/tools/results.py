"""Reads what the last run left: its settings and the metrics of each scheme."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config.choose import PARAMS
from pipeline.config.gate import GateConfig
from pipeline.config.plain import load
from pipeline.errors import ConfigurationError, InputError

Metrics = Mapping[str, Any]  # a file of metrics/, as the stage `evaluate` writes it


def params_of_project() -> dict[str, Any]:
    """Return what params.yaml of this folder holds.

    Raises:
        PipelineError: If it is missing or holds no keys and values.
    """
    return load(PARAMS)


def read_metrics(path: Path) -> Metrics:
    """Read one file of metrics/.

    Raises:
        InputError: If it is missing or damaged.
    """
    try:
        found: Metrics = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            found=f"{path} is missing or damaged", expected="the metrics of a finished run", remedy="run `make repro`"
        ) from error
    return found


def gate_of(params: Mapping[str, Any]) -> GateConfig:
    """Return the limits in the section `gate`; what it does not name has none.

    Raises:
        ConfigurationError: If it is no section, or names what is no limit.
    """
    known = GateConfig.__dataclass_fields__
    section = params.get("gate") or {}
    if not isinstance(section, dict) or not set(section) <= set(known):
        raise ConfigurationError(
            found=f"params.yaml: `gate: {section}`",
            expected=f"indented lines with keys among {', '.join(known)}",
            remedy="correct it (git diff params.yaml shows the old one)",
        )
    return GateConfig(**(dict.fromkeys(known) | section))
