"""What `gate:` in params.yaml may hold: limits that a model must keep before an app gets it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from omegaconf import MISSING

from pipeline.config.ranges import at_least, between, one_of

MICRO_COSTS = ("flash_bytes", "arena_bytes")  # what a model takes on a microcontroller
# What `gate.judge_by` may say.
JUDGES = (FIGURE, INTERVAL) = ("figure", "interval")


@dataclass(frozen=True)
class MicroLimits:
    """What a microcontroller has room for; None is no limit.

    Attributes:
        max_flash_bytes: Of the model.
        max_arena_bytes: Of the memory that TensorFlow Lite for Microcontrollers works in.
    """

    max_flash_bytes: float | None = None
    max_arena_bytes: float | None = None

    def __bool__(self) -> bool:
        """Tell whether there is any limit."""
        return bool(self.by_cost())

    def __str__(self) -> str:
        """Return the limits by their names in params.yaml."""
        return " and ".join(f"gate.max_{cost}: {limit:,.0f}" for cost, limit in self.by_cost().items())

    def by_cost(self) -> dict[str, float]:
        """Return the limits that are set, by the name of what they are on."""
        named = zip(MICRO_COSTS, (self.max_flash_bytes, self.max_arena_bytes), strict=True)
        return {cost: limit for cost, limit in named if limit is not None}

    def keep(self, costs: Mapping[str, float]) -> bool:
        """Tell whether costs are within the limits; a model without these costs runs on no microcontroller."""
        return all(costs.get(cost, math.inf) <= limit for cost, limit in self.by_cost().items())


@dataclass
class GateConfig:
    """Limits that a model must keep to be deployed, each a number or null (no limit).

    Attributes:
        judge_by: What is held against the limits on accuracies: `figure` (what was measured) or `interval` (the worse
            end of its 95% interval: it is worse than that in one case of forty).
        min_accuracy: Share of frames that are right, 0 to 1; null is no limit.
        min_take_accuracy: Share of takes that are right when their frames vote, 0 to 1; null is no limit.
        min_recall: Share of a label's frames that are right, of the label that is recognized worst, 0 to 1; null is no
            limit.
        max_accuracy_drop: Accuracy of float32 minus this model's, -1 to 1; null is no limit.
        min_agreement_with_float32: Share of test frames on which both say the same, 0 to 1; null is no limit.
        min_agreement_with_litert: Share of test frames on which `evaluate.runtime` (`arm64`, say) and LiteRT on this
            machine say the same, 0 to 1; null is no limit.
        max_size_bytes: Bytes of model.tflite; null is no limit.
        max_latency_ms_p50: Milliseconds, median of one picture, as the stage `measure` found it on this machine
            (not on the phone); null is no limit.
        max_flash_bytes: Bytes of the model that `viewfinder mcu` makes for a microcontroller, of int8 alone; null is no
            limit.
        max_arena_bytes: Bytes of memory that TensorFlow Lite for Microcontrollers needs for it; null is no limit.
    """

    judge_by: str = MISSING
    min_accuracy: float | None = MISSING
    min_take_accuracy: float | None = MISSING
    min_recall: float | None = MISSING
    max_accuracy_drop: float | None = MISSING
    min_agreement_with_float32: float | None = MISSING
    min_agreement_with_litert: float | None = MISSING
    max_size_bytes: float | None = MISSING
    max_latency_ms_p50: float | None = MISSING
    max_flash_bytes: float | None = MISSING
    max_arena_bytes: float | None = MISSING

    def __post_init__(self) -> None:
        """Check the ranges."""
        one_of("gate.judge_by", self.judge_by, JUDGES)
        ranges = {
            "max_accuracy_drop": (-1.0, 1.0),
            "max_size_bytes": (1, math.inf),
            "max_latency_ms_p50": (0, math.inf),
            "max_flash_bytes": (1, math.inf),
            "max_arena_bytes": (1, math.inf),
        }
        for name, value in self.limits().items():
            low, high = ranges.get(name, (0, 1))
            if high < math.inf:
                between(f"gate.{name}", value, low, high)
            else:
                at_least(f"gate.{name}", value, low)

    def limits(self) -> dict[str, float]:
        """Return the limits that are set, by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "judge_by"}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def micro(self) -> MicroLimits:
        """What a microcontroller has room for."""
        return MicroLimits(self.max_flash_bytes, self.max_arena_bytes)


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
