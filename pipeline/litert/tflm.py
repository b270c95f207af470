"""Runs a model in TensorFlow Lite for Microcontrollers (TFLM). The only importer of tflite_micro.

It is TFLM's interpreter with its reference kernels, compiled for this machine: the code that a microcontroller
compiles, where no vendor's kernels take its place.
"""

import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.errors import MissingPackageError, ModelError
from pipeline.processes.silence import STANDARD_ERROR, redirected

ARENA_STEP_BYTES = 1024  # arenas are measured in it
_MAX_ARENA_BYTES = 1 << 28

Result = TypeVar("Result")


class MicroInterpreter:
    """A model in TFLM. Not thread-safe."""

    def __init__(self, content: bytes, arena_bytes: int) -> None:
        """Load a model.

        Args:
            content: A .tflite file with one input and one output.
            arena_bytes: Of the memory that it may use for tensors and for what it notes about them.

        Raises:
            MissingPackageError: If TFLM is not installed.
            ModelError: If TFLM has not all of its operators, or the arena is too small; with TFLM's own words.
        """
        runtime = _runtime()
        self._interpreter = _told(lambda: runtime.Interpreter.from_bytes(content, arena_size=arena_bytes))

    def __call__(self, pixels: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """Run the model.

        Args:
            pixels: int8 [p, p, 3], pixel - 128.

        Returns:
            int8 [num_outputs].

        Raises:
            ModelError: If TFLM fails at an operator.
        """

        def run() -> npt.NDArray[np.int8]:
            self._interpreter.set_input(pixels[np.newaxis], 0)
            self._interpreter.invoke()
            output: npt.NDArray[np.int8] = self._interpreter.get_output(0)[0].copy()
            return output

        return _told(run)


def smallest_arena_bytes(content: bytes) -> int:
    """Return the smallest arena, a multiple of `ARENA_STEP_BYTES`, with which TFLM allocates all of a model's tensors.

    Pointers have 8 bytes here and 4 on microcontrollers, so theirs needs less, by a few per cent. Kernels of chip
    vendors (CMSIS-NN, ESP-NN) ask for buffers of their own beside it, which nobody can measure here.

    Args:
        content: A .tflite file.

    Raises:
        MissingPackageError: If TFLM is not installed.
        ModelError: If TFLM cannot run the model in any arena.
    """
    MicroInterpreter(content, _MAX_ARENA_BYTES)  # tells what else may be wrong with it
    too_few, enough = 0, _MAX_ARENA_BYTES // ARENA_STEP_BYTES
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if _fits(content, middle * ARENA_STEP_BYTES):
            enough = middle
        else:
            too_few = middle
    return enough * ARENA_STEP_BYTES


def _fits(content: bytes, arena_bytes: int) -> bool:
    try:
        MicroInterpreter(content, arena_bytes)
    except ModelError:
        return False
    return True


def _runtime() -> Any:
    """Return the package's module."""
    try:
        from tflite_micro import runtime  # noqa: PLC0415 - not installed everywhere
    except ImportError as error:
        raise MissingPackageError(
            found=f"tflite-micro is not installed ({error})",
            expected="TensorFlow Lite for Microcontrollers, which measures the arena and proves the model's answers",
            remedy='run `pip install --pre tflite-micro`, or `pip install ".[mcu]"` here, on Linux on x86-64',
        ) from error
    return runtime


def _told(action: Callable[[], Result]) -> Result:
    """Let TFLM do something, and put what it prints when it fails, which is the reason, into the error."""
    with tempfile.TemporaryFile() as caught:
        try:
            with redirected(caught, (STANDARD_ERROR,)):
                return action()
        except (RuntimeError, ValueError) as error:
            caught.seek(0)
            said = " ".join(caught.read().decode(errors="replace").split())
            raise ModelError(
                found=f"TFLM cannot run the model: {said or error}",
                expected="operators that TFLM has, for int8, and an arena that holds its tensors",
                remedy="choose another backbone",
            ) from error
