"""Reads what the last run left: its settings and the metrics of each scheme."""

import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.config.gate import FIGURE, GateConfig
from pipeline.config.plain import PARAMS, load
from pipeline.errors import ConfigurationError, InputError
from pipeline.litert.metadata import FIRST_OUTPUT
from pipeline.metrics.classification import CROSSVAL

Metrics = Mapping[str, Any]  # a file of metrics/, as the stage `measure` writes it


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
    if not {"scored_by", "baseline_accuracy", "busy_percent"} <= found.keys():
        raise InputError(
            found=f"{path} was written by an earlier version of Viewfinder",
            expected="metrics that say what they were scored by, and how busy the machine was that timed the model",
            remedy="run `dvc repro`",
        )
    return found


def scored_on(metrics: Metrics) -> str:
    """Tell what a scheme's leading figures are of."""
    what = f"{metrics['num_test_frames']} frames of {metrics['num_test_takes']} takes"
    if metrics["scored_by"] == CROSSVAL:
        return f"Cross-validated: {what}, each by a head without its take"
    return f"Scored on {what} that were not trained on"


def asked_head(params: Mapping[str, Any], name: str | None) -> str | None:
    """Return the head that models are compared by; None for the first.

    Args:
        params: What params.yaml holds.
        name: What a person asks for.

    Raises:
        ConfigurationError: If the project has no head of that name.
    """
    further = list(params.get("heads") or {})
    if name not in (None, FIRST_OUTPUT, *further):
        raise ConfigurationError(
            found=f"--head {name}",
            expected=f"one of the project's heads: {', '.join([FIRST_OUTPUT, *further])}",
            remedy="choose one of these, leave --head out for the first, or add it to `heads` in params.yaml",
        )
    return None if name == FIRST_OUTPUT else name


def further_heads_of(manifest: Mapping[str, Any]) -> list[str]:
    """Return the names of the heads beside the first one, as the manifest of a deployed model tells them."""
    return [head["name"] for head in manifest["output"].get("heads", [])]


def tell_of_heads_left_out(command: str, names: Collection[str]) -> None:
    """Say which heads a command leaves out that takes the first alone; nothing if there is no other."""
    if names:
        sys.stderr.write(f"{command}: takes the first head alone, and leaves out: {', '.join(names)}\n")


def listed_schemes(params: Mapping[str, Any]) -> list[str]:
    """Return `quantization` of params.yaml, in its order.

    Raises:
        ConfigurationError: If it is no list of names.
    """
    schemes = params.get("quantization")
    if not isinstance(schemes, list) or not schemes or not all(isinstance(scheme, str) for scheme in schemes):
        raise _refusal(f"`quantization: {schemes}`", "a list of schemes, such as [float32, int8]")
    return schemes


def gate_of(params: Mapping[str, Any]) -> GateConfig:
    """Return the limits in the section `gate`; what it does not name has none.

    Raises:
        ConfigurationError: If it is no section, names what is no limit, or a limit is out of its range.
    """
    unlimited: dict[str, Any] = dict.fromkeys(GateConfig.__dataclass_fields__)
    known = OmegaConf.structured(GateConfig(**unlimited | {"judge_by": FIGURE}))
    try:
        return cast(GateConfig, OmegaConf.to_object(OmegaConf.merge(known, params.get("gate") or {})))
    except (OmegaConfBaseException, ValueError) as error:
        expected = f"numbers or null under {', '.join(known)}"
        raise _refusal(f"`gate: {params['gate']}` ({str(error).splitlines()[0]})", expected) from error


def _refusal(found: str, expected: str) -> ConfigurationError:
    return ConfigurationError(
        found=f"{PARAMS}: {found}", expected=expected, remedy=f"correct it (git diff {PARAMS} shows the old one)"
    )
