"""A picture by which a firmware proves that it feeds the model rightly.

Of a real frame a good model is so sure that its int8 answer is 127 once and -128 else, whatever a firmware does wrong.
Half of one frame laid over half of another leaves it in doubt, and its answer then tells.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.special import entr

from pipeline.litert.golden import MISTAKES
from pipeline.litert.micro import OUTPUT_SCALE, OUTPUT_ZERO_POINT

Pixels = npt.NDArray[np.uint8]
Output = npt.NDArray[np.int8]

_DOES_NOTHING_TO_SQUARES = "sides cut off"


@dataclass(frozen=True)
class SelfTest:
    """A picture with the answer to expect.

    Attributes:
        pixels: uint8 [p, p, 3], RGB.
        output: int8 [num_labels].
        changes: By how many steps, of 256, an output changes at most, by the mistake that is made with the picture.
    """

    pixels: Pixels
    output: Output
    changes: dict[str, int]


def candidates_of(pictures: Sequence[Pixels]) -> list[Pixels]:
    """Return the pictures, and each laid half over the next; uint8 [p, p, 3] each."""
    halves = [picture // 2 for picture in pictures]
    return [*pictures, *(one + other for one, other in pairwise(halves))]


def choose_self_test(
    candidates: Sequence[Pixels], outputs: Sequence[Output], answer: Callable[[Pixels], Output]
) -> SelfTest:
    """Choose the picture that the model is most in doubt about: that with the largest entropy.

    Args:
        candidates: uint8 [p, p, 3] each, at least one.
        outputs: int8 [num_labels] each, their answers.
        answer: Runs the model.
    """
    best = int(np.argmax([_entropy(output) for output in outputs]))
    pixels, output = candidates[best], outputs[best]
    changes = {
        name: int(np.abs(answer(spoil(pixels)).astype(int) - output).max())
        for name, spoil in MISTAKES.items()
        if name != _DOES_NOTHING_TO_SQUARES
    }
    return SelfTest(pixels, output, changes)


def _entropy(output: Output) -> float:
    """Return the entropy of an answer in nats, with what the labels' probabilities lack to 1 as one of them."""
    probabilities = (output.astype(np.float64) - OUTPUT_ZERO_POINT) * OUTPUT_SCALE
    return float(entr([*probabilities, max(0.0, 1 - probabilities.sum())]).sum())
