"""Measures what a model costs on a microcontroller, and proves that it is scored by TFLM's arithmetic."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import ModelError
from pipeline.litert.interpreter import load_interpreter
from pipeline.litert.micro import PIXEL_OFFSET, micro_features
from pipeline.litert.multiply_adds import num_multiply_adds
from pipeline.litert.tflm import MicroInterpreter, smallest_arena_bytes

Pixels = npt.NDArray[np.uint8]
Output = npt.NDArray[np.int8]


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


def by_reference_kernels(content: bytes) -> Callable[[Pixels], Output]:
    """Return what runs a model of `micro_classifier` on a picture, uint8 [p, p, 3], by LiteRT's reference kernels."""
    interpreter = load_interpreter(content, 1, reference_kernels=True)
    given, answer = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(picture: Pixels) -> Output:
        interpreter.set_tensor(given, _as_input(picture)[np.newaxis])
        interpreter.invoke()
        output: Output = interpreter.get_tensor(answer)[0]
        return output

    return run


def proven_answers(content: bytes, arena_bytes: int, pictures: Sequence[Pixels]) -> list[Output]:
    """Run pictures in TFLM, and prove that LiteRT's reference kernels give the same bits: features and answers.

    Answers alone would prove little: where a model is sure, most of its outputs are -128.

    Args:
        content: A model of `micro_classifier`.
        arena_bytes: For TFLM.
        pictures: uint8 [p, p, 3].

    Returns:
        int8 [num_labels] for each.

    Raises:
        ModelError: If one integer differs; then the score would be another model's.
    """
    features = micro_features(content)
    _equal_outputs(features, smallest_arena_bytes(features), pictures)
    return _equal_outputs(content, arena_bytes, pictures)


def _equal_outputs(content: bytes, arena_bytes: int, pictures: Sequence[Pixels]) -> list[Output]:
    micro, reference = MicroInterpreter(content, arena_bytes), by_reference_kernels(content)
    outputs = []
    for number, picture in enumerate(pictures):
        found, expected = micro(_as_input(picture)), reference(picture)
        if not np.array_equal(found, expected):
            raise ModelError(
                found=f"TFLM and LiteRT's reference kernels differ in {int((found != expected).sum())} of {len(found)}"
                f" integers for picture {number}",
                expected="the same, bit for bit: the score is by the latter",
                remedy="install the versions of requirements-dev.lock (`make setup-dev`); if it stays so, take another"
                " backbone: docs/pages/mcu.md tells which ones TFLM answers alike",
            )
        outputs.append(found)
    return outputs


def _as_input(picture: Pixels) -> Output:
    return (picture.astype(np.int16) - PIXEL_OFFSET).astype(np.int8)
