"""Runs a model in LiteRT, the phone's own runtime."""

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from pipeline.errors import ModelError
from pipeline.litert.metadata import read_normalization
from pipeline.processes.silence import STANDARD_ERROR, redirected

_DELEGATE_MESSAGE = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU."
_delegate_lock = threading.Lock()
_delegate_announced = False


class Model:
    """A model that takes one picture and gives one vector, or one for each head.

    Not thread-safe: make one for each thread. `invoke` releases Python's lock, so two models with one thread each give
    as much as one model with two.

    Attributes:
        input_pixels: Side of the square input.
        input_type: In which numbers it takes pixels 0..255: `uint8`, or `float32` if its metadata say so.
        output_lengths: Length of each output vector.
        output_length: Length of all of them.
    """

    def __init__(self, content: bytes, num_threads: int = 1) -> None:
        """Load a model and check what it takes and gives.

        Args:
            content: A .tflite file.
            num_threads: Threads that LiteRT may use, at least 1.

        Raises:
            ModelError: If LiteRT cannot load it, or unless it takes plain uint8 [1, p, p, 3], or the same numbers as
                float32, and gives float32 [1, n], once or more often.
        """
        self._interpreter = load_interpreter(content, num_threads)
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        takes_pixels = inputs[0]["dtype"] is np.uint8 or read_normalization(content) == ((0,), (1,))
        if not _is_picture(inputs) or not takes_pixels or not _are_vectors(outputs):
            raise ModelError(
                found=f"a model that takes {_describe(inputs)} and gives {_describe(outputs)}",
                expected="uint8 [1, p, p, 3] without quantization in (or float32, if the metadata say mean 0 and"
                " deviation 1), and float32 [1, n] out",
                remedy="delete the file and run `dvc repro` to make it anew",
            )
        self._input_index: int = inputs[0]["index"]
        self._output_indices: list[int] = [output["index"] for output in outputs]
        self.input_type = np.dtype(inputs[0]["dtype"]).name
        self.input_pixels = int(inputs[0]["shape"][1])
        self.output_lengths = tuple(int(output["shape"][1]) for output in outputs)
        self.output_length = sum(self.output_lengths)

    def __call__(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Run the model.

        Args:
            image: uint8 [input_pixels, input_pixels, 3], RGB, 0..255.

        Returns:
            float32 [output_length], the outputs one behind the other; the caller's own copy.

        Raises:
            ValueError: If the image has another shape or type; the message is LiteRT's.
        """
        pixels = image.astype(np.float32) if self.input_type == "float32" else image
        self._interpreter.set_tensor(self._input_index, pixels[np.newaxis])
        self._interpreter.invoke()
        outputs: list[npt.NDArray[np.float32]] = [self._interpreter.get_tensor(i)[0] for i in self._output_indices]
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)


@contextlib.contextmanager
def without_delegate_message() -> Iterator[None]:
    """Keep LiteRT's "Created TensorFlow Lite XNNPACK delegate" off the terminal; pass on all else.

    LiteRT writes it to file descriptor 2 when the first model of a process is loaded, and has no switch for it (it
    heeds neither TF_CPP_MIN_LOG_LEVEL nor Python's logging). So the descriptor is pointed at a temporary file until it
    was said.
    """
    if _delegate_announced:
        yield
        return
    with _delegate_lock, tempfile.TemporaryFile() as caught:
        try:
            with redirected(caught, (STANDARD_ERROR,)):
                yield
        finally:
            caught.seek(0)
            _pass_on(caught.readlines())


def _pass_on(lines: list[bytes]) -> None:
    """Print what was caught, but for the delegate's message."""
    global _delegate_announced  # noqa: PLW0603 - once a process, like the message
    others = [line for line in lines if not line.startswith(_DELEGATE_MESSAGE)]
    _delegate_announced = _delegate_announced or len(others) < len(lines)
    os.write(STANDARD_ERROR, b"".join(others))


def load_interpreter(content: bytes, num_threads: int, *, reference_kernels: bool = False) -> Any:
    """Load a model of any inputs and outputs, ready to run.

    Args:
        content: A .tflite file.
        num_threads: Threads that LiteRT may use, at least 1.
        reference_kernels: Compute with LiteRT's plain C++ kernels, which define what each operator gives, instead of
            XNNPACK. They take about forty times as long and use one thread.

    Raises:
        ModelError: If LiteRT cannot load it.
    """
    kernels = OpResolverType.BUILTIN_REF if reference_kernels else OpResolverType.AUTO
    try:
        with without_delegate_message():
            interpreter = Interpreter(
                model_content=content, num_threads=num_threads, experimental_op_resolver_type=kernels
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelError(
            found=f"a model that LiteRT cannot load: {error}",
            expected="a .tflite file with built-in operators",
            remedy="delete the file and run `dvc repro` to make it anew",
        ) from error
    return interpreter


def _is_picture(details: list[dict[str, Any]]) -> bool:
    if len(details) != 1:
        return False
    shape = tuple(details[0]["shape"])
    is_plain = details[0]["dtype"] in (np.uint8, np.float32) and details[0]["quantization"] == (0.0, 0)
    return is_plain and len(shape) == 4 and shape == (1, shape[1], shape[1], 3)


def _are_vectors(details: list[dict[str, Any]]) -> bool:
    return bool(details) and all(
        detail["dtype"] is np.float32 and len(detail["shape"]) == 2 and detail["shape"][0] == 1 for detail in details
    )


def _describe(details: list[dict[str, Any]]) -> str:
    return " and ".join(
        f"{np.dtype(detail['dtype']).name} {list(map(int, detail['shape']))}"
        + (f" with scale {detail['quantization'][0]:g}" if detail["quantization"] != (0.0, 0) else "")
        for detail in details
    )
