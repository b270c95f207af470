"""Keeps biases of quantized layers within 32 bits, where a channel's weights are next to nothing.

A quantized layer adds its bias as an integer whose unit is the input's scale times the weights'. Networks have dead
channels, pruned ones above all, whose weights are zeros or next to it and whose bias still says something: its integer
would not fit. The quantizer then takes the largest that does, and turns even its sign, since 2**31 - 1 is none of
float32's numbers. TensorFlow's own quantizer gives such channels a larger scale (`AdjustWeightsForBiasScale` in
tensorflow/lite/tools/optimize/quantization_utils.cc), and so does this.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.litert.flatbuffer import constant, operator_name, read_model, set_constant, write_model

_MAX_INTEGER = 1 << 29  # of a bias: some algorithms take scales a few times smaller than the largest weight asks for
_LARGEST_WEIGHT = 127  # as an integer of 8 bits; with fewer bits biases are smaller
_CHANNEL_AXES = {"CONV_2D": 0, "FULLY_CONNECTED": 0, "DEPTHWISE_CONV_2D": -1}

Ranges = Mapping[str, Mapping[str, npt.NDArray[Any]]]


def with_room_for_biases(content: bytes, ranges: Ranges, activation_bits: int) -> bytes:
    """Raise the largest weight of each channel whose bias would not fit.

    That adds 0.0001 of the bias at most with activations of 8 bits, 0.008 with 16.

    Args:
        content: A float32 .tflite file.
        ranges: Smallest and largest value of each activation, `min` and `max` [1], by the tensor's name.
        activation_bits: 8, whose scales hold the range, or 16, whose scales are symmetric. Biases have 32 with both.

    Returns:
        The file itself if all biases fit.
    """
    model, is_changed = read_model(content), False
    graph = model.subgraphs[0]
    for operator in graph.operators:
        axis = _CHANNEL_AXES.get(operator_name(model, operator))
        found = ranges.get(graph.tensors[operator.inputs[0]].name.decode())
        if axis is None or found is None or len(operator.inputs) < 3 or operator.inputs[2] < 0:
            continue
        scale = _scale(found["min"].item(), found["max"].item(), activation_bits)
        if not scale:
            continue
        weights = np.moveaxis(constant(model, operator.inputs[1]), axis, 0)
        rows = weights.reshape(len(weights), -1).copy()
        bias = constant(model, operator.inputs[2])
        places = np.arange(len(rows)), np.abs(rows).argmax(1)
        needed = _LARGEST_WEIGHT * np.abs(bias) / (_MAX_INTEGER * scale)
        is_short = np.abs(rows[places]) < needed
        if is_short.any():
            rows[places] = np.where(is_short, np.copysign(needed, rows[places]), rows[places])
            set_constant(model, operator.inputs[1], np.moveaxis(rows.reshape(weights.shape), 0, axis))
            is_changed = True
    return write_model(model) if is_changed else content


def _scale(low: float, high: float, bits: int) -> float:
    if bits == 8:
        return (max(high, 0.0) - min(low, 0.0)) / 255
    return max(abs(low), abs(high)) / ((1 << (bits - 1)) - 1)
