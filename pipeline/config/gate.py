"""What `gate:` in params.yaml may hold: limits that a model must keep before an app gets it."""

import math
from dataclasses import dataclass, fields

from omegaconf import MISSING

from pipeline.config.ranges import at_least, between


@dataclass
class GateConfig:
    """Limits that a model must keep to be deployed, each a number or null (no limit).

    Attributes:
        min_accuracy: Share of test frames that are right, 0 to 1; null is no limit.
        min_take_accuracy: Share of test takes that are right when their frames vote, 0 to 1; null is no limit.
        max_accuracy_drop: Accuracy of float32 minus this model's, -1 to 1; null is no limit.
        min_agreement_with_float32: Share of test frames on which both say the same, 0 to 1; null is no limit.
        max_size_bytes: Bytes of model.tflite; null is no limit.
        max_latency_ms_p50: Milliseconds, median of one picture, as the stage `evaluate` measured it on this machine
            (not on the phone); null is no limit.
    """

    min_accuracy: float | None = MISSING
    min_take_accuracy: float | None = MISSING
    max_accuracy_drop: float | None = MISSING
    min_agreement_with_float32: float | None = MISSING
    max_size_bytes: float | None = MISSING
    max_latency_ms_p50: float | None = MISSING

    def __post_init__(self) -> None:
        """Check the ranges."""
        ranges = {
            "max_accuracy_drop": (-1.0, 1.0),
            "max_size_bytes": (1, math.inf),
            "max_latency_ms_p50": (0, math.inf),
        }
        for name, value in self.limits().items():
            low, high = ranges.get(name, (0, 1))
            if high < math.inf:
                between(f"gate.{name}", value, low, high)
            else:
                at_least(f"gate.{name}", value, low)

    def limits(self) -> dict[str, float]:
        """Return the limits that are set, by name."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}


@dataclass
class GateStage:
    """Configuration of `python -m pipeline.gate`.

    Attributes:
        deploy: The scheme that is to be deployed.
        quantization: The schemes of which a refusal names those that would pass.
        gate: The limits.
    """

    deploy: str = MISSING
    quantization: list[str] = MISSING
    gate: GateConfig = MISSING
