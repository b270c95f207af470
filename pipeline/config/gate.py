"""What `gate:` in params.yaml may hold: limits that a model must keep before an app gets it."""

import math
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import MISSING

from pipeline.errors import PipelineError

# DVC writes a null of params.yaml into a command as Python does; Hydra takes that for a text.
_NULL_IN_A_COMMAND = "None"


@dataclass
class GateConfig:
    """Limits, each a number or null (no limit).

    Typed `Any` because `None` comes as a text (see above); `__post_init__` makes each a float or None and checks its
    range.

    Attributes:
        min_accuracy: Of single test frames, 0..1.
        min_take_accuracy: Of takes, whose frames vote, 0..1.
        max_accuracy_drop: Accuracy of float32 minus this model's, -1..1.
        min_agreement_with_float32: Share of test frames on which both say the same, 0..1.
        max_size_bytes: Of model.tflite.
        max_latency_ms_p50: Median time of one picture, as the stage `evaluate` measured it on this machine.
    """

    min_accuracy: Any = MISSING
    min_take_accuracy: Any = MISSING
    max_accuracy_drop: Any = MISSING
    min_agreement_with_float32: Any = MISSING
    max_size_bytes: Any = MISSING
    max_latency_ms_p50: Any = MISSING

    def __post_init__(self) -> None:
        """Turn each limit into a number or None, and check its range."""
        ranges = {
            "max_accuracy_drop": (-1.0, 1.0),
            "max_size_bytes": (1, math.inf),
            "max_latency_ms_p50": (0, math.inf),
        }
        for field in fields(self):
            value = getattr(self, field.name)
            if value != MISSING:
                setattr(self, field.name, _limit(f"gate.{field.name}", value, *ranges.get(field.name, (0, 1))))

    def limits(self) -> dict[str, float]:
        """Return the limits that are set, by name."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}


@dataclass
class GateStage:
    """Configuration of `python -m pipeline.gate`."""

    deploy: str = MISSING
    gate: GateConfig = MISSING


def _limit(key: str, value: object, low: float, high: float) -> float | None:
    if value in (None, _NULL_IN_A_COMMAND):
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and low <= value <= high):  # type: ignore[operator]
        numbers = f"a number from {low:g} to {high:g}" if high < math.inf else f"a number of at least {low:g}"
        raise PipelineError(
            found=f"{key}: {value}",
            expected=f"{numbers}, or null (no limit)",
            remedy=f"correct `{key}` in params.yaml",
        )
    return value  # type: ignore[return-value]
