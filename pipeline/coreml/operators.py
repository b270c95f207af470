"""LiteRT's operators in the words of Core ML's builder (MIL), each as its reference kernel computes it.

What each means is told by LiteRT's schema (https://github.com/google-ai-edge/LiteRT, schema.fbs) and by the builder's
reference (https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipeline.coreml.graph import Node
from pipeline.coreml.layout import TO_CHANNELS_FIRST, TO_CHANNELS_LAST, as_operand, axis_of, by_axis, reshaped
from pipeline.coreml.translation import Translate, Translation, refusal

_BINARY = {
    "ADD": "add",
    "SUB": "sub",
    "MUL": "mul",
    "DIV": "real_div",
    "MAXIMUM": "maximum",
    "MINIMUM": "minimum",
}
_UNARY = {
    "ABS": "abs",
    "EXP": "exp",
    "LOGISTIC": "sigmoid",
    "RELU": "relu",
    "RELU6": "relu6",
    "SQRT": "sqrt",
    "SQUARE": "square",
    "TANH": "tanh",
}
_REDUCTIONS = {"MEAN": "reduce_mean", "SUM": "reduce_sum", "REDUCE_MAX": "reduce_max", "REDUCE_MIN": "reduce_min"}


def _convolution(to: Translation, node: Node) -> Any:
    weights = to.constant(node, 1)  # [num_outputs, height, width, num_inputs of a group]
    num_outputs, *_, num_inputs = weights.shape
    return to.mb.conv(
        x=to.value(node),
        weight=np.ascontiguousarray(weights.transpose(0, 3, 1, 2)),
        bias=to.bias(node, num_outputs),
        groups=to.shape(node)[3] // num_inputs,
        name=node.name,
        **_strides_and_pads(to, node, weights.shape[1:3]),
    )


def _depthwise_convolution(to: Translation, node: Node) -> Any:
    weights = to.constant(node, 1)  # [1, height, width, num_outputs]
    return to.mb.conv(
        x=to.value(node),
        weight=np.ascontiguousarray(weights.transpose(3, 0, 1, 2)),
        bias=to.bias(node, weights.shape[3]),
        groups=to.shape(node)[3],
        name=node.name,
        **_strides_and_pads(to, node, weights.shape[1:3]),
    )


def _strides_and_pads(to: Translation, node: Node, kernel: tuple[int, ...]) -> dict[str, Any]:
    strides = (node.options.strideH, node.options.strideW)
    dilations = (node.options.dilationHFactor, node.options.dilationWFactor)
    pads = _pads(to, node, kernel, strides, dilations)
    return {"strides": list(strides), "dilations": list(dilations), "pad_type": "custom", "pad": pads}


def _pads(
    to: Translation, node: Node, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...] = (1, 1)
) -> list[int]:
    """Return how much is put above, below, left and right: with SAME, what is odd comes below and right."""
    if node.options.padding == schema.Padding.VALID:
        return [0, 0, 0, 0]
    pads = []
    for size, length, stride, dilation in zip(to.shape(node)[1:3], kernel, strides, dilations, strict=True):
        total = max((math.ceil(size / stride) - 1) * stride + (length - 1) * dilation + 1 - size, 0)
        pads += [total // 2, total - total // 2]
    return pads


def _fully_connected(to: Translation, node: Node) -> Any:
    weights, shape, output = to.constant(node, 1), to.shape(node), to.output_shape(node)
    bias = to.bias(node, len(weights))
    if len(shape) == len(output) == 4:  # a convolution of one pixel
        return to.mb.conv(x=to.value(node), weight=weights[:, :, None, None], bias=bias, name=node.name)
    rows = [math.prod(shape) // weights.shape[1], weights.shape[1]]
    x = reshaped(to.mb, to.value(node), shape, rows)
    return reshaped(
        to.mb, to.mb.linear(x=x, weight=weights, bias=bias, name=node.name), [rows[0], len(weights)], output
    )


def _pool(to: Translation, node: Node) -> Any:
    kernel = (node.options.filterHeight, node.options.filterWidth)
    strides = (node.options.strideH, node.options.strideW)
    given = {"x": to.value(node), "kernel_sizes": list(kernel), "strides": list(strides), "name": node.name}
    given |= {"pad_type": "custom", "pad": _pads(to, node, kernel, strides)}
    if node.kind == "MAX_POOL_2D":
        return to.mb.max_pool(**given)
    return to.mb.avg_pool(**given, exclude_padding_from_average=True)


def _binary(to: Translation, node: Node) -> Any:
    one, other = (_operand(to, node, number) for number in (0, 1))
    return getattr(to.mb, _BINARY[node.kind])(x=one, y=other, name=node.name)


def _squared_difference(to: Translation, node: Node) -> Any:
    one, other = (_operand(to, node, number) for number in (0, 1))
    return to.mb.square(x=to.mb.sub(x=one, y=other), name=node.name)


def _operand(to: Translation, node: Node, number: int) -> Any:
    """Return an input as one that is broadcast to the output's shape as in LiteRT."""
    rank = len(to.output_shape(node))
    if node.inputs[number] in to.graph.constants:
        return as_operand(to.constant(node, number), rank)
    shape = to.shape(node, number)
    return reshaped(to.mb, to.value(node, number), shape, (1,) * (rank - len(shape)) + shape)


def _unary(to: Translation, node: Node) -> Any:
    return getattr(to.mb, _UNARY[node.kind])(x=to.value(node), name=node.name)


def _rsqrt(to: Translation, node: Node) -> Any:
    return to.mb.rsqrt(x=to.value(node), epsilon=1e-12, name=node.name)  # the smallest that the builder takes


def _hard_swish(to: Translation, node: Node) -> Any:
    """Multiply x by relu6(x + 3) / 6: Howard et al., 2019, https://arxiv.org/abs/1905.02244."""
    x = to.value(node)
    gate = to.mb.mul(x=to.mb.relu6(x=to.mb.add(x=x, y=np.float32(3))), y=np.float32(1 / 6))
    return to.mb.mul(x=x, y=gate, name=node.name)


def _gelu(to: Translation, node: Node) -> Any:
    mode = "TANH_APPROXIMATION" if node.options.approximate else "EXACT"
    return to.mb.gelu(x=to.value(node), mode=mode, name=node.name)


def _leaky_relu(to: Translation, node: Node) -> Any:
    return to.mb.leaky_relu(x=to.value(node), alpha=float(node.options.alpha), name=node.name)


def _softmax(to: Translation, node: Node) -> Any:
    x = to.value(node)
    if node.options.beta != 1:
        x = to.mb.mul(x=x, y=np.float32(node.options.beta))
    return to.mb.softmax(x=x, axis=axis_of(-1, len(to.shape(node))), name=node.name)


def _reduction(to: Translation, node: Node) -> Any:
    shape = to.shape(node)
    dropped = {int(axis) % len(shape) for axis in to.constant(node, 1).reshape(-1)}
    axes = sorted(axis_of(axis, len(shape)) for axis in dropped)
    x = getattr(to.mb, _REDUCTIONS[node.kind])(x=to.value(node), axes=axes, keep_dims=True, name=node.name)
    kept = [1 if axis in dropped else size for axis, size in enumerate(shape)]
    return reshaped(to.mb, x, kept, to.output_shape(node))


def _pad(to: Translation, node: Node) -> Any:
    value = float(to.constant(node, 2).reshape(())) if node.kind == "PADV2" else 0.0
    pads = [int(number) for pair in by_axis(to.constant(node, 1).tolist()) for number in pair]
    return to.mb.pad(x=to.value(node), pad=pads, mode="constant", constant_val=value, name=node.name)


def _reshape(to: Translation, node: Node) -> Any:
    return reshaped(to.mb, to.value(node), to.shape(node), to.output_shape(node))


def _concatenation(to: Translation, node: Node) -> Any:
    values = [to.value(node, number) for number in range(len(node.inputs))]
    return to.mb.concat(values=values, axis=axis_of(node.options.axis, len(to.shape(node))), name=node.name)


def _slice(to: Translation, node: Node) -> Any:
    begin, size = by_axis(to.constant(node, 1).tolist()), by_axis(list(to.output_shape(node)))
    return to.mb.slice_by_size(x=to.value(node), begin=begin, size=size, name=node.name)


def _strided_slice(to: Translation, node: Node) -> Any:
    options, (begin, end, strides) = node.options, (to.constant(node, number).tolist() for number in (1, 2, 3))
    if options.ellipsisMask or options.newAxisMask or options.shrinkAxisMask or options.offset or min(strides) < 1:
        raise refusal(node, "that adds or drops dimensions, or runs backwards")
    ranges = []
    for axis, size in enumerate(to.shape(node)):
        first = None if options.beginMask >> axis & 1 else begin[axis]
        last = None if options.endMask >> axis & 1 else end[axis]
        ranges.append(slice(first, last, strides[axis]).indices(size))
    begins, ends, steps = ([part[number] for part in by_axis(ranges)] for number in range(3))
    return to.mb.slice_by_index(x=to.value(node), begin=begins, end=ends, stride=steps, name=node.name)


def _transpose(to: Translation, node: Node) -> Any:
    order = to.constant(node, 1).tolist()
    if len(order) == 4:
        order = [TO_CHANNELS_LAST[order[axis]] for axis in TO_CHANNELS_FIRST]
    return to.mb.transpose(x=to.value(node), perm=order, name=node.name)


def _cast(to: Translation, node: Node) -> Any:
    """The program's picture is float32 already."""
    if node.inputs[0] != to.graph.image:
        raise refusal(node, "of something else than the picture")
    return to.value(node)


OPERATORS: Mapping[str, Translate] = {
    **dict.fromkeys(_BINARY, _binary),
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_REDUCTIONS, _reduction),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), _pool),
    **dict.fromkeys(("PAD", "PADV2"), _pad),
    **dict.fromkeys(("EXPAND_DIMS", "RESHAPE", "SQUEEZE"), _reshape),
    "CAST": _cast,
    "CONCATENATION": _concatenation,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise_convolution,
    "FULLY_CONNECTED": _fully_connected,
    "GELU": _gelu,
    "HARD_SWISH": _hard_swish,
    "LEAKY_RELU": _leaky_relu,
    "RSQRT": _rsqrt,
    "SLICE": _slice,
    "SOFTMAX": _softmax,
    "SQUARED_DIFFERENCE": _squared_difference,
    "STRIDED_SLICE": _strided_slice,
    "TRANSPOSE": _transpose,
}
