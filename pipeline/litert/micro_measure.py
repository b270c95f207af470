"""Measures what a model costs on a microcontroller, and proves that it is scored by TFLM's arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import ModelError
from pipeline.litert.interpreter import load_interpreter
from pipeline.litert.micro import PIXEL_OFFSET
from pipeline.litert.multiply_adds import num_multiply_adds
from pipeline.litert.tflm import MicroInterpreter, smallest_arena_bytes


@dataclass(frozen=True)
class Footprint:
    """What a model costs.

    Attributes:
        flash_bytes: Of the model, not of TFLM's code.
        arena_bytes: See `smallest_arena_bytes`.
        multiply_adds: For one picture.
    """

    flash_bytes: int
    arena_bytes: int
    multiply_adds: int

    @classmethod
    def of(cls, content: bytes) -> "Footprint":
        """Measure a model that TFLM can run."""
        return cls(len(content), smallest_arena_bytes(content), num_multiply_adds(content))


def proven_answers(
    content: bytes, arena_bytes: int, pictures: Sequence[npt.NDArray[np.uint8]]
) -> list[npt.NDArray[np.int8]]:
    """Run pictures in TFLM, and prove that LiteRT's reference kernels give the same bits.

    Args:
        content: The model.
        arena_bytes: For TFLM.
        pictures: uint8 [p, p, 3].

    Returns:
        int8 [num_labels] for each.

    Raises:
        ModelError: If one answer differs; then the score would be another model's.
    """
    micro, reference = MicroInterpreter(content, arena_bytes), load_interpreter(content, 1, reference_kernels=True)
    given, answer = reference.get_input_details()[0]["index"], reference.get_output_details()[0]["index"]
    found = []
    for number, picture in enumerate(pictures):
        pixels = (picture.astype(np.int16) - PIXEL_OFFSET).astype(np.int8)
        reference.set_tensor(given, pixels[np.newaxis])
        reference.invoke()
        found.append(micro(pixels))
        expected = reference.get_tensor(answer)[0]
        if not np.array_equal(found[-1], expected):
            raise ModelError(
                found=f"TFLM answers {found[-1].tolist()} to picture {number}, LiteRT's reference kernels"
                f" {expected.tolist()}",
                expected="the same, bit for bit: the score is by the latter",
                remedy="install the versions of requirements-dev.lock: `make setup-dev`",
            )
    return found
