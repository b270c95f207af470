"""Checks of single values, with the key's full name in the message."""

import math
from collections.abc import Sequence

from pipeline.errors import ConfigurationError


def at_least(key: str, value: float, low: float) -> None:
    """Raise ConfigurationError unless `value >= low`, and finite."""
    if not low <= value < math.inf:
        raise _refusal(key, value, f"a number of at least {low:g}")


def above(key: str, value: float, low: float) -> None:
    """Raise ConfigurationError unless `value > low`, and finite."""
    if not low < value < math.inf:
        raise _refusal(key, value, f"a number above {low:g}")


def between(key: str, value: float, low: float, high: float) -> None:
    """Raise ConfigurationError unless `low <= value <= high`."""
    if not low <= value <= high:
        raise _refusal(key, value, f"a number from {low:g} to {high:g}")


def one_of(key: str, value: str, choices: Sequence[str]) -> None:
    """Raise ConfigurationError unless `value` is among the choices."""
    if value not in choices:
        raise _refusal(key, value, f"one of {', '.join(choices)}")


def _refusal(key: str, value: object, expected: str) -> ConfigurationError:
    return ConfigurationError(
        found=f"{key}: {value}", expected=expected, remedy=f"correct `{key}` in params.yaml or conf/"
    )
