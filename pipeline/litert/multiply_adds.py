"""Counts what a model computes for one picture."""

import math
from typing import Any

from pipeline.litert.flatbuffer import operator_name, read_model


def num_multiply_adds(content: bytes) -> int:
    """Return the multiplications of convolutions and fully connected layers for one picture.

    Each counts with the addition behind it, as papers on networks for phones do (https://arxiv.org/abs/1704.04861);
    biases, normalization and what has no weights are left out.

    Args:
        content: A .tflite file.

    Raises:
        ModelError: If it is no TensorFlow Lite model.
    """
    model = read_model(content)
    return sum(_of_operator(model, operator) for operator in model.subgraphs[0].operators)


def _of_operator(model: Any, operator: Any) -> int:
    tensors, kind = model.subgraphs[0].tensors, operator_name(model, operator)
    if kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return 0
    weights, output = tensors[operator.inputs[1]].shape, tensors[operator.outputs[0]].shape
    # what one number of the output is made of: weights are [out, height, width, in], [1, height, width, out], [out, in]
    of_each = weights[1:3] if kind == "DEPTHWISE_CONV_2D" else weights[1:]
    return math.prod(map(int, output)) * math.prod(map(int, of_each))
