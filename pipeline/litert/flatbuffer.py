"""Reads and writes .tflite files as objects, and knows where a model's head begins.

The objects are those of LiteRT's generated schema (`ModelT` and its parts).
"""

import re
from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from pipeline.errors import ModelError

LOGITS_NAME = b"logits"
PROBABILITIES_NAME = b"probabilities"
METADATA_NAME = b"TFLITE_METADATA"
EVERY_PROBABILITY_NAME = b"probabilities_with_none"  # behind those of the labels, that it is none of them
AS_PICTURE_NAME = b"probabilities_as_picture"
PART_NAME = b"probabilities_of_labels"

# The operators of a head with the names of their outputs: one that knows its labels alone, one of labels that are true
# together, and one that knows what is none of its labels, too.
HEADS = (
    (("FULLY_CONNECTED", LOGITS_NAME), ("SOFTMAX", PROBABILITIES_NAME)),
    (("FULLY_CONNECTED", LOGITS_NAME), ("LOGISTIC", PROBABILITIES_NAME)),
    (
        ("FULLY_CONNECTED", LOGITS_NAME),
        ("SOFTMAX", EVERY_PROBABILITY_NAME),
        ("RESHAPE", AS_PICTURE_NAME),
        ("SLICE", PART_NAME),
        ("RESHAPE", PROBABILITIES_NAME),
    ),
)

_HEAD_PREFIX = re.compile(rb"head/[^/]+/")
_FILE_IDENTIFIER = b"TFL3"
_BUFFER_ALIGNMENT_BYTES = 16  # `force_align: 16` of Buffer.data in the schema, which Python's generated code forgets
_OPERATOR_NAMES: dict[int, str] = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)
}
_TENSOR_TYPE_NAMES: dict[int, str] = {
    value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)
}


class _AlignedBuffer:
    """Packs itself like the schema's BufferT, but aligned, which XNNPACK reads faster and some kernels insist on."""

    def __init__(self, data: npt.NDArray[np.uint8]) -> None:
        self._data = data

    def Pack(self, builder: Any) -> int:  # noqa: N802 - the name that ModelT.Pack calls
        """Write the buffer and return its offset."""
        builder.Prep(_BUFFER_ALIGNMENT_BYTES, self._data.size)
        data = builder.CreateNumpyVector(self._data)
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


def read_model(content: bytes) -> Any:
    """Read a .tflite file.

    Args:
        content: The file. Anything behind the flatbuffer, such as a zip of labels, is left out.

    Returns:
        The schema's `ModelT`, with the data of every buffer in place: LiteRT's quantizer puts them behind the
        flatbuffer, where older runtimes do not look.

    Raises:
        ModelError: If it is no TensorFlow Lite model, damaged, or has not exactly one graph.
    """
    if content[4:8] != _FILE_IDENTIFIER:
        raise _refusal(f"a file that begins with {content[:8]!r}", "a TensorFlow Lite model (bytes 4 to 7 are TFL3)")
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
        for buffer in model.buffers:
            if buffer.offset > 1:  # 0 and 1 mean "inside", by the schema
                buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
                buffer.offset = buffer.size = 0
    except Exception as error:  # garbage raises almost anything
        reason = " ".join(str(error).split())
        raise _refusal(f"a damaged TensorFlow Lite model: {reason}", "the whole file, as it was made") from error
    if len(model.subgraphs or []) != 1:
        raise _refusal(f"a model with {len(model.subgraphs or [])} graphs", "a model with one graph")
    return model


def write_model(model: Any) -> bytes:
    """Write a .tflite file: every buffer inside and aligned. Equal models give equal bytes.

    Args:
        model: The schema's `ModelT`. It is left as it was.
    """
    buffers = model.buffers
    arrays = [None if buffer.data is None else np.asarray(buffer.data, np.uint8) for buffer in buffers]
    builder = flatbuffers.Builder(sum(0 if array is None else array.size for array in arrays) + (1 << 16))
    model.buffers = [
        _AlignedBuffer(array) if array is not None and array.size else schema.BufferT() for array in arrays
    ]
    try:
        builder.Finish(model.Pack(builder), file_identifier=_FILE_IDENTIFIER)
    finally:
        model.buffers = buffers
    return bytes(builder.Output())


def builtin_number(model: Any, operator: Any) -> int:
    """Return the schema's number of an operator's kind; numbers above 127 stand in the newer of two fields."""
    code = model.operatorCodes[operator.opcodeIndex]
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def operator_name(model: Any, operator: Any) -> str:
    """Return `CONV_2D` and the like, or the own name of a custom operator (`FlexErf`)."""
    number = builtin_number(model, operator)
    if number == schema.BuiltinOperator.CUSTOM:
        return str(model.operatorCodes[operator.opcodeIndex].customCode.decode())
    return _OPERATOR_NAMES.get(number, f"operator {number}")


def tensor_type_name(tensor: Any) -> str:
    """Return `FLOAT32`, `INT8` and so on."""
    return _TENSOR_TYPE_NAMES[tensor.type]


def constant(model: Any, index: int) -> npt.NDArray[np.float32]:
    """Return what a tensor of the first graph always holds, in its shape; float32."""
    tensor = model.subgraphs[0].tensors[index]
    values: npt.NDArray[np.float32] = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view("<f4")
    return values.reshape(tensor.shape)


def set_constant(model: Any, index: int, values: npt.NDArray[Any]) -> None:
    """Let a float32 tensor of the first graph hold other values, as many as before."""
    data = np.frombuffer(np.ascontiguousarray(values, "<f4").tobytes(), np.uint8)
    model.buffers[model.subgraphs[0].tensors[index].buffer] = schema.BufferT(data=data)


def num_backbone_operators(model: Any) -> int:
    """Return how many operators come before the head: all of them where there is no head.

    A head is what `append_head` puts there and nothing else: the last operators and the names of their outputs are
    those of one of `HEADS`. Of a model with several heads, those of the others stand before them.
    """
    graph = model.subgraphs[0]
    told = [(operator_name(model, one), graph.tensors[one.outputs[0]].name or b"") for one in graph.operators]
    end = len(told)
    while head := _head_before(told[:end]):
        end -= head
    return end


def tensor_prefix(name: str) -> bytes:
    """Return how the names of the tensors of a further head begin; those of the first head have no prefix."""
    return b"head/%s/" % name.encode()


def _head_before(operators: Sequence[tuple[str, bytes]]) -> int:
    """Return how many of the last operators are one head: 0 if they are none."""
    prefix = match[0] if operators and (match := _HEAD_PREFIX.match(operators[-1][1])) else b""
    for head in HEADS:
        if tuple(operators[-len(head) :]) == tuple((kind, prefix + name) for kind, name in head):
            return len(head)
    return 0


def _refusal(found: str, expected: str) -> ModelError:
    return ModelError(found=found, expected=expected, remedy="delete the file and run `dvc repro` to make it anew")
