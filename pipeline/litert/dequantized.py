"""The float32 model that a quantized one stands for: the same weights, without the rounding of activations."""

from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from pipeline.errors import ModelError
from pipeline.litert.flatbuffer import operator_name, read_model, tensor_type_name, write_model
from pipeline.litert.interpreter import Model
from pipeline.litert.model_file import has_scale
from pipeline.litert.probes import probes
from pipeline.litert.unused import drop_unused

MAX_ERROR = 0.5  # of the features, as a share of their size; see conf/quantization/int8.yaml for what rounding makes
_DTYPES = {"INT8": "i1", "UINT8": "u1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8"}
_BETWEEN_TYPES = ("QUANTIZE", "DEQUANTIZE")  # of real numbers they change nothing but the precision


def dequantized(content: bytes) -> bytes:
    """Return a quantized backbone as one that computes in float32.

    Every constant becomes the numbers that it stands for, (q - zero_point) * scale (https://arxiv.org/abs/1712.05877),
    every activation float32.

    Args:
        content: A .tflite file from uint8 [1, p, p, 3] to float32 [1, n], whose weights or activations are quantized.

    Returns:
        A .tflite file.

    Raises:
        ModelError: If it does not give nearly the same features: somewhere the file relies on the limits of its
            integers, or LiteRT cannot load it.
    """
    model = read_model(content)
    graph = model.subgraphs[0]
    for tensor in graph.tensors:
        _let_be_float(model, tensor)
    same = dict[int, int]()
    operators = list[Any]()
    for operator in graph.operators:
        operator.inputs = [same.get(int(index), int(index)) for index in operator.inputs]
        if operator_name(model, operator) in _BETWEEN_TYPES:
            same[int(operator.outputs[0])] = operator.inputs[0]
        else:
            operators.append(operator)
    graph.operators = operators
    graph.outputs = [same.get(int(index), int(index)) for index in graph.outputs]
    signatures, model.signatureDefs = model.signatureDefs or [], []
    drop_unused(model)
    for signature in signatures:
        signature.inputs[0].tensorIndex, signature.outputs[0].tensorIndex = graph.inputs[0], graph.outputs[0]
    model.signatureDefs = signatures
    result = write_model(model)
    _refuse_far(content, result)
    return result


def feature_error(found: bytes, expected: bytes) -> float:
    """Return how far two backbones' features are apart on a few pictures, as a share of the second's size.

    It is inf or NaN if that is 0.
    """
    run_found, run_expected = Model(found), Model(expected)
    pairs = [(run_found(picture), run_expected(picture)) for picture in probes(run_expected.input_pixels)]
    difference = np.linalg.norm([one - other for one, other in pairs])
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(difference / np.linalg.norm([other for _, other in pairs]))


def _let_be_float(model: Any, tensor: Any) -> None:
    """Make float32 of a quantized or float16 tensor; others stay as they are."""
    kind = tensor_type_name(tensor)
    if kind != "FLOAT16" and not has_scale(tensor):
        return
    data = model.buffers[tensor.buffer].data
    if data is not None and len(data):
        stored = np.asarray(data, np.uint8)
        values = stored.view("<f2") if kind == "FLOAT16" else _real(stored_integers(stored, tensor), tensor)
        model.buffers.append(schema.BufferT(data=np.frombuffer(values.astype("<f4").tobytes(), np.uint8)))
        tensor.buffer = len(model.buffers) - 1
    tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None


def stored_integers(stored: npt.NDArray[np.uint8], tensor: Any) -> npt.NDArray[np.int64]:
    """Return a tensor's integers in its shape; of two INT4 in a byte, the first is in the lower bits."""
    shape = [int(size) for size in tensor.shape]
    if tensor_type_name(tensor) == "INT4":
        halves = np.stack([stored & 15, stored >> 4], -1).reshape(-1)[: int(np.prod(shape))].astype(np.int64)
        return np.where(halves > 7, halves - 16, halves).reshape(shape)
    return stored.view(_DTYPES[tensor_type_name(tensor)]).astype(np.int64).reshape(shape)


def _real(integers: npt.NDArray[np.int64], tensor: Any) -> npt.NDArray[np.float64]:
    """Return the numbers that integers stand for, with one scale or one for each part along an axis."""
    scale, zero = (np.asarray(values) for values in (tensor.quantization.scale, tensor.quantization.zeroPoint))
    if len(scale) > 1:
        along = [1] * integers.ndim
        along[tensor.quantization.quantizedDimension] = len(scale)
        scale, zero = scale.reshape(along), zero.reshape(along) if len(zero) > 1 else zero
    real: npt.NDArray[np.float64] = (integers - zero) * scale.astype(np.float64)
    return real


def _refuse_far(quantized: bytes, result: bytes) -> None:
    error = feature_error(result, quantized)
    if not error <= MAX_ERROR:  # also refuses NaN
        raise ModelError(
            found=f"the quantized backbone as float32 gives features that are {error:.2g} of their size away from it",
            expected=f"at most {MAX_ERROR}",
            remedy="use the feature extractor's own float32 file, and let the schemes quantize that",
        )
