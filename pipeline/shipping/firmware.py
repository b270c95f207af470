"""The files of a firmware: a model as a C array with what there is to know of it, and an example that runs it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import ModelError
from pipeline.litert.micro import OUTPUT_SCALE, OUTPUT_ZERO_POINT, PIXEL_OFFSET
from pipeline.shipping.firmware_texts import GOLDEN_CC, GOLDEN_H, MAIN_CC, MAKEFILE, MODEL_CC, MODEL_H

_BYTES_PER_LINE = 16
_LARGEST_OUTPUT = 127
_SAFE = {chr(code) for code in range(32, 127)} - set('"\\?')

# What a resolver of TFLM calls the operators that networks for pictures consist of: methods of MicroMutableOpResolver
# (https://github.com/tensorflow/tflite-micro/blob/main/tensorflow/lite/micro/micro_mutable_op_resolver.h).
METHODS = {
    "ADD": "AddAdd",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "CONCATENATION": "AddConcatenation",
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "DEQUANTIZE": "AddDequantize",
    "FULLY_CONNECTED": "AddFullyConnected",
    "HARD_SWISH": "AddHardSwish",
    "LEAKY_RELU": "AddLeakyRelu",
    "LOGISTIC": "AddLogistic",
    "MAX_POOL_2D": "AddMaxPool2D",
    "MEAN": "AddMean",
    "MUL": "AddMul",
    "PAD": "AddPad",
    "PADV2": "AddPadV2",
    "QUANTIZE": "AddQuantize",
    "RELU": "AddRelu",
    "RELU6": "AddRelu6",
    "RESHAPE": "AddReshape",
    "SLICE": "AddSlice",
    "SOFTMAX": "AddSoftmax",
    "SPLIT": "AddSplit",
    "SQUEEZE": "AddSqueeze",
    "STRIDED_SLICE": "AddStridedSlice",
    "SUB": "AddSub",
    "SUM": "AddSum",
    "TANH": "AddTanh",
    "TRANSPOSE": "AddTranspose",
}


@dataclass(frozen=True)
class Firmware:
    """What the files are made of.

    Attributes:
        model: The .tflite file.
        backbone: Its name.
        resize: How a picture becomes square.
        input_pixels: Side of the input.
        labels: In the order of the output.
        threshold: Probability below which the picture shows none of them; None if the model always names one.
        arena_bytes: Of the arena.
        operators: Names of the kinds of operators, as in the schema of .tflite files.
        golden_pixels: uint8 [input_pixels, input_pixels, 3], RGB.
        golden_output: int8 [num_labels].
    """

    model: bytes
    backbone: str
    resize: str
    input_pixels: int
    labels: Sequence[str]
    threshold: float | None
    arena_bytes: int
    operators: Sequence[str]
    golden_pixels: npt.NDArray[np.uint8]
    golden_output: npt.NDArray[np.int8]

    def files(self) -> dict[str, str]:
        """Return the text of each file by its name.

        Raises:
            ModelError: If TFLM's resolver has no method for an operator.
        """
        return {
            "model.h": self._model_h(),
            "model.cc": MODEL_CC.substitute(bytes="\n".join(_lines(self.model))),
            "golden.h": GOLDEN_H,
            "golden.cc": GOLDEN_CC.substitute(
                pixels="\n".join(_lines(self.golden_pixels.tobytes())),
                output=", ".join(map(str, self.golden_output.tolist())),
            ),
            "main.cc": self._main_cc(),
            "Makefile": MAKEFILE,
        }

    def _model_h(self) -> str:
        told = "This model always names one."
        if self.threshold is not None:
            told = f"It stands for a probability of {self.threshold:.4f}, the threshold of the model for phones."
        return MODEL_H.substitute(
            backbone=self.backbone,
            num_bytes=len(self.model),
            arena_bytes=self.arena_bytes,
            resize=self.resize,
            input_pixels=self.input_pixels,
            input_zero_point=-PIXEL_OFFSET,
            output_zero_point=OUTPUT_ZERO_POINT,
            num_labels=len(self.labels),
            labels=", ".join(map(c_string, self.labels)),
            threshold=threshold_as_output(self.threshold),
            threshold_told=told,
        )

    def _main_cc(self) -> str:
        missing = [name for name in self.operators if name not in METHODS]
        if missing:
            raise ModelError(
                found=f"operators that the example cannot register with TFLM: {', '.join(missing)}",
                expected=f"some of {', '.join(METHODS)}",
                remedy="choose another backbone; if TFLM has them, add their methods in pipeline/shipping/firmware.py",
            )
        adds = [f"  TF_LITE_ENSURE_STATUS(resolver.{METHODS[name]}());" for name in self.operators]
        return MAIN_CC.substitute(num_operators=len(self.operators), adds="\n".join(adds))


def threshold_as_output(threshold: float | None) -> int:
    """Return the smallest int8 output that is at or above a probability; -128, which all are, for None.

    The largest output stands for 255/256 and for all above it, so no threshold is above that.
    """
    if threshold is None:
        return OUTPUT_ZERO_POINT
    return min(math.ceil(threshold / OUTPUT_SCALE) + OUTPUT_ZERO_POINT, _LARGEST_OUTPUT)


def c_string(text: str) -> str:
    """Return a string literal of C++: UTF-8 bytes as octal escapes where they are not plain."""
    letters = (letter if letter in _SAFE else "".join(f"\\{byte:03o}" for byte in letter.encode()) for letter in text)
    return f'"{"".join(letters)}"'


def _lines(content: bytes) -> Iterator[str]:
    for start in range(0, len(content), _BYTES_PER_LINE):
        yield "    " + "".join(f"0x{byte:02x}," for byte in content[start : start + _BYTES_PER_LINE])
