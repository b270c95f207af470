"""Pictures with known answers, by which an app proves that it feeds the model rightly.

Comparing probabilities as they are would prove nothing: a good model is so sure of real frames that swapped colours
changed none by more than 0.016, and other mistakes none by 0.005 (36 frames, three labels). The ratio of probabilities
tells: with swapped colours, a turned or a cropped picture some probability was off by a factor of 2 or more on half of
the frames, while another set of LiteRT's kernels stayed within 1.35 for int8 and 1.00002 for float32. So answers are
compared by ratio, and the frames are those on which mistakes show best.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_FACTOR = 1.5  # see the module's text: above what kernels differ by, below what mistakes do
MAX_FACTOR_GPU = 4  # GPUs compute in float16: above what that changes (`python -m bench.input_types`)
FLOOR = 1e-6  # smaller probabilities are taken for this one: they may be rounded to 0

Rgb = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]


def _largest_square(rgb: Rgb) -> Rgb:
    height, width = rgb.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(rgb[top : top + side, left : left + side])


# What goes wrong in apps, done to an upright picture.
MISTAKES: Mapping[str, Callable[[Rgb], Rgb]] = {
    "red and blue swapped": lambda rgb: np.ascontiguousarray(rgb[..., ::-1]),
    "turned by 90 degrees": lambda rgb: np.ascontiguousarray(np.rot90(rgb)),
    "sides cut off": _largest_square,
    "bytes taken for signed": lambda rgb: rgb ^ np.uint8(128),
    "scaled to 0..1": lambda rgb: rgb // 255,
}


@dataclass(frozen=True)
class Golden:
    """A picture with the answer to expect.

    Attributes:
        image: uint8 [height, width, 3], RGB, upright.
        label: What it shows; empty for none of the labels, None if nobody knows.
        probabilities: float32 [num_labels].
        factors: For each mistake, the largest ratio between a probability with and without it.
    """

    image: Rgb
    label: str | None
    probabilities: Probabilities
    factors: Mapping[str, float]


def choose_golden(
    candidates: Sequence[tuple[str | None, Rgb]], answer: Callable[[Rgb], Probabilities], max_pictures: int
) -> list[Golden]:
    """Choose the pictures on which mistakes show best: the best of each label first, then the second of each.

    Args:
        candidates: Labels and pictures, uint8 [height, width, 3], RGB, upright.
        answer: Runs the model on a picture of any size, from its pixels on.
        max_pictures: How many to choose at most.

    Returns:
        The chosen ones, in the order of `candidates`.
    """
    every = [_golden(label, image, answer) for label, image in candidates]
    by_label: dict[str | None, list[int]] = {}
    for index in sorted(range(len(every)), key=lambda i: -min(every[i].factors.values())):
        by_label.setdefault(every[index].label, []).append(index)
    ranked = [(rank, -min(every[i].factors.values()), i) for same in by_label.values() for rank, i in enumerate(same)]
    return [every[i] for i in sorted(index for _, _, index in sorted(ranked)[:max_pictures])]


def largest_factor(found: Probabilities, expected: Probabilities) -> float:
    """Return the largest ratio, at least 1, between two models' probabilities of the same label."""
    logarithms = [np.log(np.maximum(values.astype(np.float64), FLOOR)) for values in (found, expected)]
    return float(np.exp(np.abs(logarithms[0] - logarithms[1]).max()))


def _golden(label: str | None, image: Rgb, answer: Callable[[Rgb], Probabilities]) -> Golden:
    expected = answer(image)
    factors = {name: largest_factor(answer(spoil(image)), expected) for name, spoil in MISTAKES.items()}
    return Golden(image, label, expected, factors)
