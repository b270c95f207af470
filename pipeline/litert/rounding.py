"""Rounds a float backbone's weights so that the layers' outputs change least, rather than the weights themselves.

Rounding each weight to its nearest step costs nothing with 8 bits, once the head is trained on what comes out; with 4
bits it costs up to 20 points of accuracy (see conf/quantization/int4.yaml). Two remedies, both measured on calibration
pictures, cost nothing at run time:

- GPTQ (Frantar et al., 2022, https://arxiv.org/abs/2210.17323) rounds the weights of a convolution one input at a time
  and lets the inputs that are still to come make up for the error, as far as inputs go together in real pictures.
- Bias correction (Nagel et al., 2019, https://arxiv.org/abs/1906.04721, section 4.2) shifts each channel's bias by the
  mean error that is left.

Layers are treated in order, each on what the rounded layers before it give. LiteRT runs the operators one by one, so
whatever the backbone is built of works. litert_quantizer has GPTQ for fully connected layers alone.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from pipeline.litert.flatbuffer import constant, operator_name, read_model, set_constant, write_model
from pipeline.litert.layers import bits_of_weights

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Arrays = dict[int, list[npt.NDArray[Any]]]  # by tensor index, one array a picture

_NUM_POSITIONS = 64  # of a layer's output that are looked at in each picture; 128 gave no smaller error
_MAX_PICTURES = 64  # that are looked at; 129 gave no smaller error and took 1.7 times as long
_DAMPING = 0.01  # of the mean second moment, added to each: GPTQ's own default
_CLIPPINGS = np.linspace(0.4, 1.0, 31)  # candidates for a channel's largest step, as shares of its largest weight
_PRUNED_SHARE = 0.1  # of zeros, above which a matrix was pruned; EfficientNet-Lite's own ones have up to 0.057


def round_weights(content: bytes, weight_bits: int, pictures: Sequence[npt.NDArray[np.uint8]]) -> bytes:
    """Put the weights of every convolution on a grid that the quantizer's min/max scales find again.

    Symmetric scales, one a channel: each channel holds its scale times the largest step at least once. Depthwise
    convolutions get 8 bits and nearest steps, as each of their channels has but one input; their biases are corrected.
    The first layer gets 8 bits, too (see pipeline.litert.layers).

    Args:
        content: A float32 .tflite file with one uint8 input.
        weight_bits: 4 or 8.
        pictures: uint8 [p, p, 3], 0..255; of more than 64, every second, or third and so on. All activations between
            two operators are in memory at once: about 6 MB a picture for EfficientNet-Lite0.

    Returns:
        A float32 .tflite file with the same operators. Equal arguments give equal bytes on the same machine.
    """
    pictures = pictures[:: math.ceil(len(pictures) / _MAX_PICTURES)]
    reference, model = read_model(content), read_model(content)
    wanted = {position: mean for position, mean, _ in _layers(reference, pictures)}
    for position, mean, second_moments in _layers(model, pictures):
        operator = model.subgraphs[0].operators[position]
        weights, bias = constant(model, operator.inputs[1]), constant(model, operator.inputs[2]).astype(np.float64)
        bits = bits_of_weights(model, operator, weight_bits)
        if operator_name(model, operator) == "CONV_2D":
            matrix = weights.reshape(len(weights), -1)
            rounded = gptq(matrix, second_moments, bits)
            bias = bias + matrix @ wanted[position].ravel() - rounded @ mean.ravel()
        else:
            taps = weights.reshape(-1, weights.shape[-1])
            rounded = _nearest(taps.T, bits).T
            bias = bias + (taps * wanted[position] - rounded * mean).sum(0)
        set_constant(model, operator.inputs[1], rounded)
        set_constant(model, operator.inputs[2], bias)
    return write_model(model)


def gptq(weights: Floats, second_moments: Doubles, bits: int) -> Floats:
    """Round a matrix so that its product with inputs of these second moments changes little.

    Inputs are taken in the order of falling second moment. The largest weight of a channel stays at the largest step,
    so that scale = largest value / (2 ** (bits - 1) - 1). The zeros of a pruned matrix stay zeros and make up for no
    error, as in E. Frantar and D. Alistarh, "SparseGPT", 2023, https://arxiv.org/abs/2301.00774.

    Args:
        weights: float32 [num_outputs, num_inputs].
        second_moments: float64 [num_inputs, num_inputs], the mean of x x^T over centred inputs x.
        bits: Bits of a step, with sign.

    Returns:
        float32 [num_outputs, num_inputs], each row a scale times integers of that many bits.
    """
    diagonal = np.diag(second_moments)
    damped = second_moments + np.eye(len(diagonal)) * (_DAMPING * diagonal.mean() + np.finfo(np.float32).tiny)
    scales, largest_step = _scales(weights, diagonal, bits), 2 ** (bits - 1) - 1
    largest = np.where(weights.any(1), np.abs(weights).argmax(1), -1)  # dead channels have none
    zeros = weights == 0
    fixed_zeros = zeros & (zeros.mean() > _PRUNED_SHARE)
    order = np.argsort(-diagonal, kind="stable")
    # row i of the inverse's upper Cholesky factor tells how the inputs after i make up for an error in input i
    factor = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    left, steps = weights[:, order].astype(np.float64), np.zeros(weights.shape)
    for column, source in enumerate(order):
        step = np.clip(np.rint(left[:, column] / scales), -largest_step, largest_step)
        step = np.where(fixed_zeros[:, source], 0, step)
        step = np.where(largest == source, np.copysign(largest_step, weights[:, source]), step)
        error = (left[:, column] - step * scales) / factor[column, column]
        left[:, column + 1 :] -= np.outer(error, factor[column, column + 1 :])
        steps[:, source] = step
    rounded: Floats = (steps * scales[:, np.newaxis]).astype(np.float32)
    return rounded


def _scales(weights: Floats, importance: Doubles, bits: int) -> Doubles:
    """Return, for each row, the scale whose nearest steps have the least squared error, weighted by the inputs."""
    largest_step = 2 ** (bits - 1) - 1
    whole = np.maximum(np.abs(weights).max(1), np.finfo(np.float32).tiny).astype(np.float64) / largest_step
    best: Doubles = whole
    least_error = np.full(len(weights), np.inf)
    for clipping in _CLIPPINGS:
        scales = whole * clipping
        steps = np.clip(np.rint(weights / scales[:, np.newaxis]), -largest_step, largest_step)
        error = (steps * scales[:, np.newaxis] - weights) ** 2 @ (importance + np.finfo(np.float32).tiny)
        best = np.where(error < least_error, scales, best)
        least_error = np.minimum(error, least_error)
    return best


def _nearest(weights: Floats, bits: int) -> Floats:
    """Round each row to its nearest steps, the largest value being the largest step."""
    scales = np.abs(weights).max(1, keepdims=True) / (2 ** (bits - 1) - 1)
    scales = np.maximum(scales, np.finfo(np.float32).tiny)
    rounded: Floats = (np.rint(weights / scales) * scales).astype(np.float32)
    return rounded


def _layers(model: Any, pictures: Sequence[npt.NDArray[np.uint8]]) -> Iterator[tuple[int, Doubles, Doubles]]:
    """Run a model operator by operator and stop before each convolution, whose weights may then be changed.

    Yields:
        The operator's position, and of what its weights are multiplied with the mean [num_taps, num_channels] and the
        centred second moments (see `_statistics`).
    """
    graph = model.subgraphs[0]
    arrays: Arrays = {int(graph.inputs[0]): [picture[np.newaxis] for picture in pictures]}
    for position, operator in enumerate(graph.operators):
        if operator_name(model, operator) in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            yield position, *_statistics(model, operator, arrays[operator.inputs[0]], seed=position)
        arrays[operator.outputs[0]] = _run(model, operator, arrays)
        needed = {int(index) for later in graph.operators[position + 1 :] for index in later.inputs}
        arrays = {index: values for index, values in arrays.items() if index in needed}


def _statistics(model: Any, operator: Any, inputs: list[Floats], *, seed: int) -> tuple[Doubles, Doubles]:
    """Return the mean and the centred second moments of what a convolution sees, at random places of its output.

    Sums are float64: in float32 they would depend on the number of threads that compute them, and with them which way
    some weights go.

    Returns:
        float64 [num_taps, num_channels], and float64 [num_taps * num_channels, num_taps * num_channels], which is zeros
        [1, 1] for depthwise convolutions.
    """
    graph = model.subgraphs[0]
    height, width = (int(pixels) for pixels in graph.tensors[operator.outputs[0]].shape[1:3])
    places = np.random.default_rng(seed).permutation(height * width)[:_NUM_POSITIONS]
    is_full = operator_name(model, operator) == "CONV_2D"
    total: Doubles = np.zeros(1)
    products: Doubles = np.zeros((1, 1))
    for array in inputs:
        seen = _patches(model, operator, array[0], places // width, places % width).astype(np.float64)
        total = total + seen.sum(0)
        if is_full:
            flat = seen.reshape(len(seen), -1)
            products = products + flat.T @ flat
    num, mean = len(places) * len(inputs), total / (len(places) * len(inputs))
    return mean, products / num - np.outer(mean, mean) if is_full else products


def _patches(model: Any, operator: Any, array: Floats, rows: Indices, columns: Indices) -> Floats:
    """Cut out what the kernel covers at these places of the output: float32 [num_places, num_taps, num_channels]."""
    graph, options = model.subgraphs[0], operator.builtinOptions
    kernel_height, kernel_width = (int(pixels) for pixels in graph.tensors[operator.inputs[1]].shape[1:3])
    height, width = (int(pixels) for pixels in graph.tensors[operator.outputs[0]].shape[1:3])
    margins = [
        _margins(options, array.shape[0], height, options.strideH, kernel_height),
        _margins(options, array.shape[1], width, options.strideW, kernel_width),
    ]
    padded = np.pad(array, [*margins, (0, 0)])
    rows, columns = rows * options.strideH, columns * options.strideW
    taps = [padded[rows + i, columns + j] for i in range(kernel_height) for j in range(kernel_width)]
    return np.stack(taps, 1)


def _margins(options: Any, source: int, target: int, stride: int, kernel: int) -> tuple[int, int]:
    """Return how many zeros stand before and behind a picture's pixels, as TensorFlow's SAME and VALID define it."""
    if options.padding == schema.Padding.VALID:
        return 0, 0
    total = max((target - 1) * stride + kernel - source, 0)
    return total // 2, total - total // 2


def _run(model: Any, operator: Any, arrays: Arrays) -> list[npt.NDArray[Any]]:
    """Run one operator on every picture's arrays."""
    interpreter = Interpreter(model_content=_alone(model, operator), num_threads=1)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()
    sources = [int(index) for index in operator.inputs if int(index) in arrays]
    results = []
    for values in zip(*(arrays[index] for index in sources), strict=True):
        for detail, value in zip(details, values, strict=True):
            interpreter.set_tensor(detail["index"], value)
        interpreter.invoke()
        results.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return results


def _alone(model: Any, operator: Any) -> bytes:
    """Return a .tflite file of one operator; what is not constant is its input."""
    graph = model.subgraphs[0]
    indices = [int(index) for index in (*operator.inputs, *operator.outputs)]
    places = {index: place for place, index in enumerate(dict.fromkeys(indices))}
    tensors, buffers = [], [schema.BufferT()]
    for index in places:
        source = graph.tensors[index]
        buffers.append(schema.BufferT(data=model.buffers[source.buffer].data))
        tensors.append(schema.TensorT(source.shape, source.type, len(buffers) - 1, source.name, hasRank=True))
    is_constant = [buffer.data is not None for buffer in buffers[1:]]
    inputs = [places[index] for index in map(int, operator.inputs)]
    lone = schema.OperatorT(
        opcodeIndex=0,
        inputs=inputs,
        outputs=[places[index] for index in map(int, operator.outputs)],
        builtinOptionsType=operator.builtinOptionsType,
        builtinOptions=operator.builtinOptions,
    )
    given = [place for place in dict.fromkeys(inputs) if not is_constant[place]]
    subgraph = schema.SubGraphT(tensors, given, lone.outputs, [lone])
    codes = [model.operatorCodes[operator.opcodeIndex]]
    return write_model(schema.ModelT(version=3, operatorCodes=codes, subgraphs=[subgraph], buffers=buffers))
