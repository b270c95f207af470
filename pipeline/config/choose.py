"""What `choose:` in params.yaml and conf/choose.yaml may hold: what a model may cost, and how that is weighed.

No stage reads either: a choice among results changes no result, so it re-runs nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from omegaconf import MISSING

from pipeline.config.plain import load, read_plain
from pipeline.config.ranges import between
from pipeline.errors import ConfigurationError

PARAMS = Path("params.yaml")


@dataclass(frozen=True)
class Targets:
    """What a model should cost at most; None is no target.

    Attributes:
        latency_ms: Milliseconds, median of one picture in LiteRT on this machine (not on the phone); null is no target.
        size_bytes: Bytes of model.tflite; null is no target.
    """

    latency_ms: float | None = None
    size_bytes: float | None = None

    def __bool__(self) -> bool:
        """Tell whether there is any target."""
        return self.latency_ms is not None or self.size_bytes is not None


@dataclass
class Exponents:
    """How much a cost weighs (see pipeline.choosing.reward).

    Attributes:
        within_target: Exponent of cost / target where the cost keeps the target, -1..0.
        beyond_target: The same where it does not, -1..0.
    """

    within_target: float = MISSING
    beyond_target: float = MISSING

    def __post_init__(self) -> None:
        """Check the ranges."""
        if MISSING not in (self.within_target, self.beyond_target):
            between("within_target", self.within_target, -1, 0)
            between("beyond_target", self.beyond_target, -1, 0)


def read_targets(params: Mapping[str, object]) -> Targets:
    """Read the section `choose` of what params.yaml holds; without it there is no target.

    Raises:
        ConfigurationError: If it is no section, a key is unknown, or a value is neither null nor a number above 0.
    """
    known = [field.name for field in fields(Targets)]
    section = params.get("choose", {})
    if not isinstance(section, Mapping):
        raise _refusal(f"`choose: {section}`", f"indented lines with the keys {' and '.join(known)}")
    for key, value in section.items():
        if key not in known:
            raise _refusal(f"unknown key `choose.{key}`", f"one of {', '.join(known)}")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and 0 < value < math.inf):
            raise _refusal(f"`choose.{key}: {value}`", "a number above 0, or null (no target)")
    return Targets(**section)


def targets_of_project() -> Targets:
    """Read the targets that params.yaml of this folder sets.

    Raises:
        ConfigurationError: If the file is missing, or `choose` does not hold what it should.
    """
    return read_targets(load(PARAMS))


def exponents_of_project() -> Exponents:
    """Read conf/choose.yaml.

    Raises:
        ConfigurationError: If it does not hold what it should.
    """
    return read_plain("choose.yaml", Exponents)


def _refusal(found: str, expected: str) -> ConfigurationError:
    return ConfigurationError(
        found=f"{PARAMS}: {found}", expected=expected, remedy=f"correct `choose` (git diff {PARAMS} shows the old one)"
    )
