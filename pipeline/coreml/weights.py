"""In which numbers a package keeps its weights, and how far its answers may be from LiteRT's in float32."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import ConfigurationError
from pipeline.litert.golden import MAX_FACTOR

PALETTE = "palette"
_PALETTE_BITS = 8


@dataclass(frozen=True)
class Weights:
    """A choice of `--weights`.

    Attributes:
        name: The choice.
        computes_in_float16: Whether the program's numbers are float16, which the Neural Engine wants; float32 if not.
        ios: The first version of iOS that reads such a package.
        max_factor: The largest ratio between its probabilities and LiteRT's that is let pass, see litert.golden.
    """

    name: str
    computes_in_float16: bool
    ios: int
    max_factor: float


# float32 differs in the order of sums alone, float16 by its 11 bits; of 8 bits golden.json's own rule is asked.
WEIGHTS: Mapping[str, Weights] = {
    weights.name: weights
    for weights in (
        Weights("float32", False, 15, 1.001),
        Weights("float16", True, 15, 1.2),
        Weights("int8", True, 16, MAX_FACTOR),
        Weights(f"{PALETTE}{_PALETTE_BITS}", True, 16, MAX_FACTOR),
    )
}


def weights_of(name: str) -> Weights:
    """Return a choice.

    Raises:
        ConfigurationError: If there is none of that name.
    """
    if name in WEIGHTS:
        return WEIGHTS[name]
    found = f"--weights {name}"
    bits = name.removeprefix(PALETTE)
    if name.startswith(PALETTE) and bits.isdecimal() and int(bits) < _PALETTE_BITS:
        found += f": with a palette of {bits} bits answers were off by more than the limit of {MAX_FACTOR} when tried"
    raise ConfigurationError(found=found, expected=f"one of {', '.join(WEIGHTS)}", remedy="choose one of these")
