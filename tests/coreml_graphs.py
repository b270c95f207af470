"""A small graph for each operator that is translated to Core ML, as LiteRT has it, with its traps."""

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipeline.litert.flatbuffer import write_model
from tests.tiny_models import Graph

HEIGHT = WIDTH = 6
CHANNELS = 3
WHOLE = (1, HEIGHT, WIDTH, CHANNELS)
SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
# Of ActivationFunctionType. The last is not translated: LiteRT's ADD reads over it, others may not.
RELU, RELU_N1_TO_1, RELU6, TANH = 1, 2, 3, 4

# Adds operators behind the tensor x, -1..1 in the shape WHOLE, and returns the last tensor with its shape.
Build = Callable[[Graph, int], tuple[int, tuple[int, ...]]]


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(0, 0.5, shape).astype(np.float32)


def integers(*values: object) -> np.ndarray:
    return np.array(values, np.int32)


def content_of(*builds: Build) -> bytes:
    """Return a .tflite file from uint8 [1, 6, 6, 3] to float32 [1, any]: what is built of the picture, in a row."""
    graph = Graph()
    image = graph.tensor("image", WHOLE, "uint8")
    x = graph.add("CAST", [image], "floats", WHOLE)
    x = graph.add("MUL", [x, graph.constant("scale", np.float32(2 / 255))], "scaled", WHOLE, schema.MulOptionsT())
    x = graph.add("ADD", [x, graph.constant("shift", np.float32(-1))], "x", WHOLE, schema.AddOptionsT())
    built = [build(graph, x) for build in builds]
    lengths = [int(np.prod(shape)) for _, shape in built]
    rows = [reshape(graph, found, [1, length]) for (found, _), length in zip(built, lengths, strict=True)]
    if len(rows) == 1:
        return write_model(graph.model(image, rows[0]))
    every = graph.add("CONCATENATION", rows, "every", [1, sum(lengths)], schema.ConcatenationOptionsT(axis=1))
    return write_model(graph.model(image, every))


def reshape(graph: Graph, x: int, shape: list[int]) -> int:
    target = graph.constant("shape", np.array(shape, np.int32))
    found: int = graph.add("RESHAPE", [x, target], "row", shape, schema.ReshapeOptionsT(newShape=shape))
    return found


def unary(kind: str, options: Any = None) -> Build:
    return lambda graph, x: (graph.add(kind, [x], kind, WHOLE, options), WHOLE)


def positive(kind: str) -> Build:
    def build(graph: Graph, x: int) -> tuple[int, tuple[int, ...]]:
        x = graph.add("EXP", [x], "positive", WHOLE)
        return graph.add(kind, [x], kind, WHOLE), WHOLE

    return build


def with_constant(kind: str, constant: np.ndarray, options: Any = None, *, swapped: bool = False) -> Build:
    def build(graph: Graph, x: int) -> tuple[int, tuple[int, ...]]:
        inputs = [x, graph.constant("constant", constant)]
        return graph.add(kind, inputs[::-1] if swapped else inputs, kind, WHOLE, options), WHOLE

    return build


def convolution(
    padding: int, stride: int, kernel: int = 3, *, dilation: int = 1, fused: int = 0, bias_shape: tuple[int, ...] = (4,)
) -> Build:
    def build(graph: Graph, x: int) -> tuple[int, tuple[int, ...]]:
        options = schema.Conv2DOptionsT(padding=padding, strideW=stride, strideH=stride, fusedActivationFunction=fused)
        options.dilationHFactor = options.dilationWFactor = dilation
        bias = graph.constant("bias", drawn(*bias_shape))
        if len(bias_shape) > 1:
            bias = reshape(graph, bias, [4])
        inputs = [x, graph.constant("weights", drawn(4, kernel, kernel, CHANNELS)), bias]
        shape = (1, *[pooled(HEIGHT, padding, stride, (kernel - 1) * dilation + 1)] * 2, 4)
        return graph.add("CONV_2D", inputs, "convolution", shape, options), shape

    return build


def grouped_convolution(graph: Graph, x: int) -> tuple[int, tuple[int, ...]]:
    options = schema.Conv2DOptionsT(strideW=1, strideH=1)
    options.dilationHFactor = options.dilationWFactor = 1
    x = graph.add("CONCATENATION", [x, x], "twice", (1, 6, 6, 6), schema.ConcatenationOptionsT(axis=3))
    shape = (1, 6, 6, 4)
    inputs = [x, graph.constant("weights", drawn(4, 3, 3, 3)), graph.constant("bias", drawn(4))]
    return graph.add("CONV_2D", inputs, "convolution", shape, options), shape


def depthwise(multiplier: int, padding: int) -> Build:
    def build(graph: Graph, x: int) -> tuple[int, tuple[int, ...]]:
        options = schema.DepthwiseConv2DOptionsT(padding=padding, strideW=2, strideH=2, depthMultiplier=multiplier)
        options.dilationHFactor = options.dilationWFactor = 1
        num = CHANNELS * multiplier
        inputs = [x, graph.constant("weights", drawn(1, 3, 3, num)), graph.constant("bias", drawn(num))]
        shape = (1, *[pooled(HEIGHT, padding, 2, 3)] * 2, num)
        return graph.add("DEPTHWISE_CONV_2D", inputs, "depthwise", shape, options), shape

    return build


def pooled(size: int, padding: int, stride: int, kernel: int) -> int:
    return -(-size // stride) if padding == SAME else (size - kernel) // stride + 1


def pool(kind: str, padding: int) -> Build:
    def build(graph: Graph, x: int) -> tuple[int, tuple[int, ...]]:
        options = schema.Pool2DOptionsT(padding=padding, strideW=2, strideH=2, filterWidth=3, filterHeight=3)
        shape = (1, *[pooled(HEIGHT, padding, 2, 3)] * 2, CHANNELS)
        return graph.add(kind, [x], kind, shape, options), shape

    return build


def reduction(kind: str, axes: list[int], *, keeps: bool) -> Build:
    def build(graph: Graph, x: int) -> tuple[int, tuple[int, ...]]:
        places = [axis % 4 for axis in axes]
        kept = [1 if i in places else size for i, size in enumerate(WHOLE)]
        shape = tuple(kept if keeps else [size for i, size in enumerate(WHOLE) if i not in places])
        inputs = [x, graph.constant("axes", integers(*axes))]
        return graph.add(kind, inputs, kind, shape, schema.ReducerOptionsT(keepDims=keeps)), shape

    return build


def pad(kind: str) -> Build:
    def build(graph: Graph, x: int) -> tuple[int, tuple[int, ...]]:
        inputs = [x, graph.constant("pads", integers([0, 0], [1, 2], [0, 3], [0, 1]))]
        if kind == "PADV2":
            inputs.append(graph.constant("value", np.array([0.25], np.float32)))
        shape = (1, HEIGHT + 3, WIDTH + 3, CHANNELS + 1)
        return graph.add(kind, inputs, kind, shape, schema.PadOptionsT() if kind == "PAD" else None), shape

    return build


def concatenation(axis: int) -> Build:
    def build(graph: Graph, x: int) -> tuple[int, tuple[int, ...]]:
        other = graph.constant("other", drawn(*WHOLE))
        shape = tuple(2 * size if i == axis % 4 else size for i, size in enumerate(WHOLE))
        return graph.add("CONCATENATION", [x, other], "both", shape, schema.ConcatenationOptionsT(axis=axis)), shape

    return build


def part(graph: Graph, x: int) -> tuple[int, tuple[int, ...]]:
    begin, size = (graph.constant("ends", integers(*values)) for values in ((0, 1, 2, 1), (1, 3, -1, 2)))
    return graph.add("SLICE", [x, begin, size], "part", (1, 3, 4, 2), schema.SliceOptionsT()), (1, 3, 4, 2)


def strided(**masks: int) -> Build:
    def build(graph: Graph, x: int) -> tuple[int, tuple[int, ...]]:
        ends = ((0, 1, 2, 0), (1, -1, 6, 2), (1, 2, 1, 1))
        inputs = [x, *(graph.constant("ends", integers(*values)) for values in ends)]
        first = slice(None if masks.get("beginMask", 0) & 2 else 1, None if masks.get("endMask", 0) & 2 else -1, 2)
        shape = np.zeros(WHOLE)[0:1, first, 2:6, 0:2].shape
        return graph.add("STRIDED_SLICE", inputs, "part", shape, schema.StridedSliceOptionsT(**masks)), shape

    return build


def shaped(kind: str) -> Build:
    """Through a shape of other dimensions and back, in another order than that of the picture."""

    def build(graph: Graph, x: int) -> tuple[int, tuple[int, ...]]:
        x = reshape(graph, x, [HEIGHT, WIDTH * CHANNELS])
        x = graph.add("TANH", [x], "between", [HEIGHT, WIDTH * CHANNELS])
        x = reshape(graph, x, [1, WIDTH, HEIGHT, CHANNELS])
        if kind == "EXPAND_DIMS":
            x = reshape(graph, x, [WIDTH, HEIGHT, CHANNELS])
            inputs = [x, graph.constant("axis", integers(0))]
            x = graph.add(kind, inputs, kind, WHOLE, schema.ExpandDimsOptionsT())
        if kind == "SQUEEZE":
            x = graph.add(kind, [x], kind, WHOLE[1:], schema.SqueezeOptionsT(squeezeDims=[0]))
            return x, WHOLE[1:]
        return graph.add("LOGISTIC", [x], "behind", WHOLE), WHOLE

    return build


def transposed(graph: Graph, x: int) -> tuple[int, tuple[int, ...]]:
    shape = (1, CHANNELS, HEIGHT, WIDTH)
    order = graph.constant("order", integers(0, 3, 1, 2))
    return graph.add("TRANSPOSE", [x, order], "transposed", shape, schema.TransposeOptionsT()), shape


def transposed_of_three(graph: Graph, x: int) -> tuple[int, tuple[int, ...]]:
    x = reshape(graph, x, [2, 3, 18])
    order = graph.constant("order", integers(2, 0, 1))
    return graph.add("TRANSPOSE", [x, order], "transposed", (18, 2, 3), schema.TransposeOptionsT()), (18, 2, 3)


def broadcast(graph: Graph, x: int) -> tuple[int, tuple[int, ...]]:
    """A computed row of channels, and one of a lower rank, times the picture."""
    mean, shape = reduction("MEAN", [1, 2], keeps=False)(graph, x)
    x = graph.add("MUL", [x, mean], "scaled_again", WHOLE, schema.MulOptionsT())
    kept, _ = reduction("MEAN", [1, 2], keeps=True)(graph, x)
    assert shape == (1, CHANNELS)
    return graph.add("SUB", [kept, x], "centred", WHOLE, schema.SubOptionsT()), WHOLE


def squared_difference(graph: Graph, x: int) -> tuple[int, tuple[int, ...]]:
    mean, _ = reduction("MEAN", [-1], keeps=True)(graph, x)
    return graph.add("SQUARED_DIFFERENCE", [x, mean], "squares", WHOLE, schema.SquaredDifferenceOptionsT()), WHOLE


def dense(*, rank: int, with_bias: bool = True) -> Build:
    def build(graph: Graph, x: int) -> tuple[int, tuple[int, ...]]:
        num_inputs = CHANNELS if rank == 4 else HEIGHT * WIDTH * CHANNELS
        bias = graph.constant("bias", drawn(5)) if with_bias else -1
        inputs = [x, graph.constant("weights", drawn(5, num_inputs)), bias]
        shape = (*WHOLE[:3], 5) if rank == 4 else (1, 5)
        options = schema.FullyConnectedOptionsT(keepNumDims=rank == 4)
        return graph.add("FULLY_CONNECTED", inputs, "dense", shape, options), shape

    return build


CASES: dict[str, list[Build]] = {
    "ABS": [unary("ABS", schema.AbsOptionsT())],
    "ADD": [
        with_constant("ADD", drawn(CHANNELS), schema.AddOptionsT()),
        *(
            with_constant("ADD", drawn(*WHOLE), schema.AddOptionsT(fusedActivationFunction=kind))
            for kind in (RELU, RELU_N1_TO_1, RELU6)
        ),
    ],
    "AVERAGE_POOL_2D": [pool("AVERAGE_POOL_2D", SAME), pool("AVERAGE_POOL_2D", VALID)],
    "CAST": [lambda _graph, x: (x, WHOLE)],
    "CONCATENATION": [concatenation(-1), concatenation(1)],
    "CONV_2D": [
        convolution(SAME, 2, fused=RELU6),
        convolution(VALID, 2),
        convolution(SAME, 1, dilation=2),
        convolution(SAME, 1, kernel=2),
        convolution(VALID, 1, kernel=1, bias_shape=(1, 1, 1, 4)),
        grouped_convolution,
    ],
    "DEPTHWISE_CONV_2D": [depthwise(1, SAME), depthwise(2, VALID)],
    "DIV": [with_constant("DIV", np.exp(drawn(WIDTH, CHANNELS)), schema.DivOptionsT())],
    "EXP": [unary("EXP", schema.ExpOptionsT())],
    "EXPAND_DIMS": [shaped("EXPAND_DIMS")],
    "FULLY_CONNECTED": [dense(rank=2), dense(rank=2, with_bias=False), dense(rank=4)],
    "GELU": [unary("GELU", schema.GeluOptionsT(approximate=is_near)) for is_near in (False, True)],
    "HARD_SWISH": [unary("HARD_SWISH", schema.HardSwishOptionsT())],
    "LEAKY_RELU": [unary("LEAKY_RELU", schema.LeakyReluOptionsT(alpha=0.3))],
    "LOGISTIC": [unary("LOGISTIC")],
    "MAXIMUM": [with_constant("MAXIMUM", drawn(*WHOLE), schema.MaximumMinimumOptionsT())],
    "MAX_POOL_2D": [pool("MAX_POOL_2D", SAME), pool("MAX_POOL_2D", VALID)],
    "MEAN": [
        reduction("MEAN", [1, 2], keeps=False),
        reduction("MEAN", [3], keeps=False),
        reduction("MEAN", [1], keeps=False),
        reduction("MEAN", [-1], keeps=True),
    ],
    "MINIMUM": [with_constant("MINIMUM", drawn(1), schema.MaximumMinimumOptionsT())],
    "MUL": [with_constant("MUL", drawn(HEIGHT, 1, 1), schema.MulOptionsT()), broadcast],
    "PAD": [pad("PAD")],
    "PADV2": [pad("PADV2")],
    "REDUCE_MAX": [reduction("REDUCE_MAX", [2], keeps=True)],
    "REDUCE_MIN": [reduction("REDUCE_MIN", [1, 3], keeps=False)],
    "RELU": [unary("RELU")],
    "RELU6": [unary("RELU6")],
    "RESHAPE": [shaped("RESHAPE")],
    "RSQRT": [positive("RSQRT")],
    "SLICE": [part],
    "SOFTMAX": [unary("SOFTMAX", schema.SoftmaxOptionsT(beta=beta)) for beta in (1.0, 2.5)],
    "SQRT": [positive("SQRT")],
    "SQUARE": [unary("SQUARE", schema.SquareOptionsT())],
    "SQUARED_DIFFERENCE": [squared_difference],
    "SQUEEZE": [shaped("SQUEEZE")],
    "STRIDED_SLICE": [strided(), strided(beginMask=2), strided(endMask=2)],
    "SUB": [with_constant("SUB", drawn(CHANNELS), schema.SubOptionsT(), swapped=True)],
    "SUM": [reduction("SUM", [1, 2, 3], keeps=True)],
    "TANH": [unary("TANH")],
    "TRANSPOSE": [transposed, transposed_of_three],
}
