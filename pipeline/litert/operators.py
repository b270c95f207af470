"""Adds tensors and operators to the graphs of a .tflite file."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int32": schema.TensorType.INT32,
    "uint8": schema.TensorType.UINT8,
    "bool": schema.TensorType.BOOL,
    "resource": schema.TensorType.RESOURCE,  # what stands for a variable
}
_MAX_DEPRECATED_NUMBER = (
    127  # of the field that older runtimes read; it has one byte, and this means: see the newer one
)


def add_tensor(
    model: Any,
    name: bytes,
    shape: Sequence[int],
    constant: npt.NDArray[Any] | None = None,
    *,
    dtype: str = "float32",
    graph: int = 0,
) -> int:
    """Add a tensor to a graph.

    Args:
        model: The schema's `ModelT`.
        name: Of the tensor.
        shape: Of the tensor.
        constant: What it always holds: as int32 if it is of that type, else as float32. None for an activation.
        dtype: Of an activation: `float32`, `int32`, `uint8`, `bool` or `resource`.
        graph: Number of the graph.

    Returns:
        Its index.
    """
    buffer = 0  # the empty one that activations share
    if constant is not None:
        dtype = "int32" if constant.dtype == np.int32 else "float32"
        little_endian = np.ascontiguousarray(constant, np.dtype(dtype).newbyteorder("<"))
        model.buffers.append(schema.BufferT(data=np.frombuffer(little_endian.tobytes(), np.uint8)))
        buffer = len(model.buffers) - 1
    tensor = schema.TensorT(shape=list(shape), type=_TYPES[dtype], buffer=buffer, name=name, hasRank=True)
    model.subgraphs[graph].tensors.append(tensor)
    return len(model.subgraphs[graph].tensors) - 1


def new_operator(
    model: Any, kind: str, inputs: list[int], outputs: int | list[int], options: Any, *, version: int = 1
) -> Any:
    """Return an operator, for a place in a graph that the caller knows.

    Args:
        model: The schema's `ModelT`.
        kind: LiteRT's name, such as `RESHAPE`.
        inputs: Its tensors.
        outputs: One tensor, or a list of any.
        options: Of the schema; None where an operator has none.
        version: Of the operator. 1 runs since LiteRT 1.5.0, so the file's own `min_runtime_version` stays right.
    """
    number = getattr(schema.BuiltinOperator, kind)
    model.operatorCodes.append(
        schema.OperatorCodeT(
            deprecatedBuiltinCode=min(number, _MAX_DEPRECATED_NUMBER), builtinCode=number, version=version
        )
    )
    return schema.OperatorT(
        opcodeIndex=len(model.operatorCodes) - 1,
        inputs=inputs,
        outputs=[outputs] if isinstance(outputs, int) else outputs,
        builtinOptionsType=_number_of(options),
        builtinOptions=options,
    )


def _number_of(options: Any) -> int:
    """Return the schema's number of an operator's options; some operators have none."""
    kind = "NONE" if options is None else type(options).__name__.removesuffix("T")
    return int(getattr(schema.BuiltinOptions, kind))


def add_operator(
    model: Any, kind: str, inputs: list[int], outputs: int | list[int], options: Any, *, graph: int = 0
) -> None:
    """Append an operator to a graph; `outputs` is one tensor, or a list of any."""
    model.subgraphs[graph].operators.append(new_operator(model, kind, inputs, outputs, options))


def add_reshape(model: Any, tensor: int, output: int, shape: list[int], name: bytes) -> None:
    """Append a RESHAPE to the first graph; `name` is that of the constant with the shape."""
    target = add_tensor(model, name, [len(shape)], np.array(shape, np.int32))
    add_operator(model, "RESHAPE", [tensor, target], output, schema.ReshapeOptionsT(newShape=shape))
