"""Makes a classifier for microcontrollers: integers alone, from the pixel to the answer.

The pipeline's int8 models have floats at both ends. TensorFlow Lite for Microcontrollers (TFLM) refuses the CAST that
makes float32 of bytes. The QUANTIZE behind it turns pixel 0..255 into pixel - 128 exactly, so both can go: the chip
subtracts 128 itself. The head in float32 would run, but many chips have no floating point, and accelerators take
integers alone: it is quantized here, by LiteRT's specification
(https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec). Between them every operator
stays as it is.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from pipeline.errors import ModelError
from pipeline.litert.flatbuffer import operator_name, read_model, tensor_type_name, write_model
from pipeline.litert.model_file import has_scale
from pipeline.litert.operators import add_operator, add_tensor
from pipeline.litert.unused import drop_unused

PIXEL_OFFSET = 128  # the model takes pixel - 128
OUTPUT_SCALE, OUTPUT_ZERO_POINT = 1 / 256, -128  # of an int8 softmax, by LiteRT's specification

_LARGEST = 127  # int8 weights are symmetric
_MAX_BIAS = 1 << 30  # of a bias as an integer; int32 holds twice as much
_LEVELS = 255  # steps of an int8 activation
_NAMELESS = b""
_VERSIONS = {"FULLY_CONNECTED": 4, "SOFTMAX": 2, "SLICE": 2}  # the first ones that take int8


@dataclass(frozen=True)
class Steps:
    """What a tensor's integers stand for: (integer - zero_point) * scale (https://arxiv.org/abs/1712.05877)."""

    scale: float
    zero_point: int = 0

    def quantized(self, values: npt.NDArray[Any], dtype: type) -> npt.NDArray[Any]:
        """Return the nearest integers, within the type's limits."""
        limits = np.iinfo(dtype)
        steps = np.round(np.asarray(values, np.float64) / self.scale) + self.zero_point
        integers: npt.NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(dtype)
        return integers


def micro_classifier(
    backbone: bytes,
    weights: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    *,
    num_labels: int,
    logit_range: tuple[float, float],
) -> bytes:
    """Put softmax(features @ weights + bias) behind an int8 backbone, in int8, and let it take pixel - 128.

    Args:
        backbone: A .tflite file of the scheme int8: uint8 [1, p, p, 3] in, float32 [1, num_features] out, integers
            between.
        weights: float32 [num_features, num_outputs].
        bias: float32 [num_outputs].
        num_labels: How many of the probabilities the model gives, the first ones; the others are what these lack to 1.
        logit_range: The smallest and the largest logit that the steps of int8 must hold; what lies outside is taken
            for the nearer of them.

    Returns:
        A .tflite file from int8 [1, p, p, 3], pixel - 128, to int8 [1, num_labels], 256 * probability - 128. It has
        neither names nor metadata, which would take flash; equal arguments give equal bytes.

    Raises:
        ModelError: If the backbone is of another form.
        ValueError: If the shapes do not fit together.
    """
    model = read_model(backbone)
    features = _cut_float_ends(model)
    num_features = int(model.subgraphs[0].tensors[features].shape[-1])
    if weights.shape != (num_features, len(bias)) or not 0 < num_labels <= len(bias):
        raise ValueError(f"weights {weights.shape}, bias {bias.shape} and {num_labels} labels; {num_features} features")
    logits = _add_fully_connected(model, features, weights, bias, logit_range)
    probabilities = _integers(model, [1, len(bias)], Steps(OUTPUT_SCALE, OUTPUT_ZERO_POINT))
    _add(model, "SOFTMAX", [logits], probabilities, schema.SoftmaxOptionsT(beta=1.0))
    if num_labels < len(bias):
        probabilities = _first(model, probabilities, num_labels)
    model.subgraphs[0].outputs = [probabilities]
    _refuse_floats(model)
    return _written_small(model)


def micro_features(content: bytes) -> bytes:
    """Return a model of `micro_classifier` without its head, which gives its features, int8 [1, num_features].

    Args:
        content: The model.
    """
    model = read_model(content)
    graph = model.subgraphs[0]
    (head,) = [one for one in graph.operators if operator_name(model, one) == "FULLY_CONNECTED"][-1:]
    graph.outputs = [int(head.inputs[0])]
    drop_unused(model)
    return _written_small(model)


def micro_operators(content: bytes) -> list[str]:
    """Return the names of a model's kinds of operators, sorted."""
    model = read_model(content)
    return sorted({operator_name(model, operator) for operator in model.subgraphs[0].operators})


def _cut_float_ends(model: Any) -> int:
    """Let the graph begin with int8 pixels and end with int8 features, and return the index of these."""
    graph = model.subgraphs[0]
    cast = _only_reader(model, int(graph.inputs[0]), "CAST")
    quantize = _only_reader(model, int(cast.outputs[0]), "QUANTIZE")
    pixels = graph.tensors[quantize.outputs[0]]
    found = _steps_of(pixels)
    if tensor_type_name(pixels) != "INT8" or found != Steps(1.0, -PIXEL_OFFSET):
        raise _refusal(f"a backbone whose pixels become {tensor_type_name(pixels)} with {_told(found)}")
    last = next((one for one in graph.operators if graph.outputs[0] in one.outputs), None)
    if last is None or operator_name(model, last) != "DEQUANTIZE":
        raise _refusal(f"a backbone that ends in {'nothing' if last is None else operator_name(model, last)}")
    features = graph.tensors[last.inputs[0]]
    if tensor_type_name(features) != "INT8":
        raise _refusal(f"a backbone whose features are {tensor_type_name(features)}")
    graph.inputs, graph.outputs = [int(quantize.outputs[0])], [int(last.inputs[0])]
    graph.operators = [one for one in graph.operators if one not in (cast, quantize, last)]
    model.signatureDefs, model.metadata = [], []
    drop_unused(model)
    return int(graph.outputs[0])


def _only_reader(model: Any, tensor: int, kind: str) -> Any:
    """Return the one operator that reads a tensor, which must be of that kind."""
    readers = [operator for operator in model.subgraphs[0].operators if tensor in operator.inputs]
    names = [operator_name(model, operator) for operator in readers]
    if names != [kind]:
        raise _refusal(f"a backbone whose pixels go into {', '.join(names) or 'nothing'}, not into {kind} alone")
    return readers[0]


def _add_fully_connected(
    model: Any,
    features: int,
    weights: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    logit_range: tuple[float, float],
) -> int:
    """Append the head's layer and return the index of its output.

    All weights share one scale: releases of TFLM that know no scale a row for this operator would take the first one
    for all, without a word.
    """
    given = _steps_of(model.subgraphs[0].tensors[features])
    scale = max(float(np.abs(weights).max()) / _LARGEST, float(np.abs(bias).max()) / (_MAX_BIAS * given.scale), 1e-12)
    of_weights, of_bias = Steps(scale), Steps(given.scale * scale)
    num_features, num_outputs = weights.shape
    inputs = [
        features,
        _integers(model, [num_outputs, num_features], of_weights, of_weights.quantized(weights.T, np.int8)),
        _integers(model, [num_outputs], of_bias, of_bias.quantized(bias, np.int32)),
    ]
    logits = _integers(model, [1, num_outputs], _activation_steps(*logit_range))
    _add(model, "FULLY_CONNECTED", inputs, logits, schema.FullyConnectedOptionsT())
    return logits


def _activation_steps(low: float, high: float) -> Steps:
    """Return the steps of an int8 activation that hold a range, and 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(high - low, 1e-6) / _LEVELS
    return Steps(scale, round(-128 - low / scale))


def _first(model: Any, probabilities: int, num_labels: int) -> int:
    """Leave out all but the first columns, and return the index of the output."""
    begin = add_tensor(model, _NAMELESS, [2], np.zeros(2, np.int32))
    size = add_tensor(model, _NAMELESS, [2], np.array([1, num_labels], np.int32))
    output = _integers(model, [1, num_labels], Steps(OUTPUT_SCALE, OUTPUT_ZERO_POINT))
    _add(model, "SLICE", [probabilities, begin, size], output, schema.SliceOptionsT())
    return output


def _integers(model: Any, shape: list[int], steps: Steps, constant: npt.NDArray[Any] | None = None) -> int:
    """Add a tensor of integers that stand for other numbers: a constant of its own type, or an int8 activation."""
    index = add_tensor(model, _NAMELESS, shape)
    tensor = model.subgraphs[0].tensors[index]
    dtype = np.dtype(np.int8) if constant is None else constant.dtype
    tensor.type = getattr(schema.TensorType, dtype.name.upper())
    tensor.quantization = schema.QuantizationParametersT(scale=[steps.scale], zeroPoint=[steps.zero_point])
    if constant is not None:
        data = np.ascontiguousarray(constant, dtype.newbyteorder("<")).tobytes()
        model.buffers.append(schema.BufferT(data=np.frombuffer(data, np.uint8)))
        tensor.buffer = len(model.buffers) - 1
    return index


def _add(model: Any, kind: str, inputs: list[int], output: int, options: Any) -> None:
    add_operator(model, kind, inputs, output, options)
    model.operatorCodes[-1].version = _VERSIONS[kind]


def _refuse_floats(model: Any) -> None:
    """Check that all operators compute with integers."""
    graph = model.subgraphs[0]
    for operator in graph.operators:
        for index in (*operator.inputs, *operator.outputs):
            if index >= 0 and "FLOAT" in tensor_type_name(graph.tensors[index]):
                raise _refusal(f"a backbone in which {operator_name(model, operator)} computes with floats")


def _written_small(model: Any) -> bytes:
    """Write a file without names, and without kinds of operators and buffers that nothing uses."""
    graph = model.subgraphs[0]
    for tensor in graph.tensors:
        tensor.name = None
    graph.name = model.description = None
    codes = dict[tuple[int, int], int]()
    kept_codes = list[Any]()
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode), code.version
        if kind not in codes:
            codes[kind] = len(kept_codes)
            kept_codes.append(code)
        operator.opcodeIndex = codes[kind]
    model.operatorCodes = kept_codes
    used = sorted({0, *(int(tensor.buffer) for tensor in graph.tensors)})
    place = {old: new for new, old in enumerate(used)}
    for tensor in graph.tensors:
        tensor.buffer = place[int(tensor.buffer)]
    model.buffers = [model.buffers[number] for number in used]
    return write_model(model)


def _steps_of(tensor: Any) -> Steps:
    if not has_scale(tensor):
        return Steps(0.0)
    return Steps(float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0]))


def _told(steps: Steps) -> str:
    return f"scale {steps.scale:.6g} and zero point {steps.zero_point}"


def _refusal(found: str) -> ModelError:
    return ModelError(
        found=found,
        expected="a backbone of the scheme int8, as the stage `quantize` makes it: a CAST and a QUANTIZE that make"
        " pixel - 128 of bytes, integers, and a DEQUANTIZE",
        remedy="choose a backbone of conf/backbone/ that is quantized by this project, and list int8 in params.yaml",
    )
