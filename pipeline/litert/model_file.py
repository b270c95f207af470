"""Looks into a .tflite file: which operators it has, and whether its tensors are what the scheme promises.

A converted file may silently hold operators that a phone lacks, or operators that stayed in float.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from pipeline.config.quantization import AS_IS, QuantizationConfig
from pipeline.errors import ModelError
from pipeline.litert.flatbuffer import (
    builtin_number,
    num_backbone_operators,
    operator_name,
    read_model,
    tensor_type_name,
)
from pipeline.litert.layers import WEIGHTED, bits_of_weights

# With `static` these alone may touch float32: the way from the picture into integers, and from there to the features.
_BORDERS = ("CAST", "QUANTIZE", "DEQUANTIZE")
# With these a converter leaves the weights outside the file; such a model loads and answers NaN.
_VARIABLES = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")


@dataclass(frozen=True)
class _Promise:
    """Tensor types of an operator that has weights."""

    weights: str
    dequantized: bool  # whether a DEQUANTIZE stands between the stored weights and the operator
    activations: str

    def __str__(self) -> str:
        behind = " behind DEQUANTIZE" if self.dequantized else ""
        return f"{self.weights} weights{behind}, {self.activations} activations"


def operators(content: bytes) -> Counter[str]:
    """Count the operators of a .tflite file by name; custom ones carry their own name (`FlexErf`).

    Raises:
        ModelError: If it is no TensorFlow Lite model.
    """
    model = read_model(content)
    return Counter(operator_name(model, operator) for operator in model.subgraphs[0].operators)


def check_builtin(content: bytes, name: str) -> None:
    """Check that every operator is built into the runtime of phones.

    Args:
        content: A .tflite file.
        name: What to call it in the message.

    Raises:
        ModelError: If there is a custom operator (Select-TF operators are among them), one that reads variables, or
            one of StableHLO.
    """
    model = read_model(content)
    for position, operator in enumerate(model.subgraphs[0].operators):
        kind = operator_name(model, operator)
        is_custom = builtin_number(model, operator) == schema.BuiltinOperator.CUSTOM
        if is_custom or kind in _VARIABLES or kind.startswith("STABLEHLO_"):
            raise ModelError(
                found=f"{name}: operator {position} is {kind}",
                expected="operators that are built into LiteRT on phones",
                remedy="build the backbone from layers that convert to built-in operators, with `from_keras_model`",
            )


def check_scheme(content: bytes, config: QuantizationConfig, name: str) -> None:
    """Check that weights and activations have the types that the scheme promises.

    It looks at the weights and activations of every convolution and fully connected layer of the backbone, and with
    `static` at the tensors of every other operator, too: none may compute in float32. The head is float32 in every
    scheme.

    Args:
        content: A .tflite file, with or without a head.
        config: The scheme.
        name: What to call the file in the message.

    Raises:
        ModelError: If a type differs; the first such operator is named.
    """
    if config.kind == AS_IS:  # it promises nothing
        return
    model = read_model(content)
    graph = model.subgraphs[0]
    for position, operator in enumerate(graph.operators[: num_backbone_operators(model)]):
        kind = operator_name(model, operator)
        if kind in WEIGHTED:
            found, promised = str(_found(model, operator)), str(_promised(config, model, operator))
        elif config.kind == "static" and kind not in _BORDERS:
            found, promised = _number_kind(model, operator), "integers only"
        else:
            continue
        if found != promised:
            result = graph.tensors[operator.outputs[0]].name.decode()
            raise ModelError(
                found=f"{name}: operator {position}, {kind} {result!r}, has {found}",
                expected=f"{promised}, as the scheme {config.scheme} promises",
                remedy="choose another scheme in params.yaml, or build the backbone from layers that can be quantized",
            )


def is_float32(content: bytes) -> bool:
    """Tell whether a .tflite file stores and computes all of its real numbers in float32.

    Raises:
        ModelError: If it is no TensorFlow Lite model.
    """
    tensors = read_model(content).subgraphs[0].tensors
    return not any(has_scale(tensor) or tensor.type == schema.TensorType.FLOAT16 for tensor in tensors)


def has_scale(tensor: Any) -> bool:
    """Tell whether a tensor's integers stand for other numbers, by a scale and a zero point."""
    scale = None if tensor.quantization is None else tensor.quantization.scale
    return scale is not None and len(scale) > 0


def _promised(config: QuantizationConfig, model: Any, operator: Any) -> _Promise:
    weight_bits = bits_of_weights(model, operator, config.weight_bits)
    activations = "FLOAT32" if config.activation_bits == 32 else f"INT{config.activation_bits}"
    return _Promise(f"{config.weight_type.upper()}{weight_bits}", config.kind == "weight_only", activations)


def _found(model: Any, operator: Any) -> _Promise:
    graph = model.subgraphs[0]
    picture, weights = (graph.tensors[index] for index in operator.inputs[:2])
    stored = _stored_weights(model, operator.inputs[1])
    result = graph.tensors[operator.outputs[0]]
    activations = dict.fromkeys(map(tensor_type_name, (picture, result)))
    return _Promise(tensor_type_name(stored), stored is not weights, " to ".join(activations))


def _number_kind(model: Any, operator: Any) -> str:
    """Tell whether an operator touches float tensors; an index of -1 is an optional input that is not there."""
    tensors = [model.subgraphs[0].tensors[index] for index in (*operator.inputs, *operator.outputs) if index >= 0]
    types = [tensor_type_name(tensor) for tensor in tensors]
    return "FLOAT32 tensors" if any("FLOAT" in name for name in types) else "integers only"


def _stored_weights(model: Any, index: int) -> Any:
    """Return the tensor that holds the weights: the one of this index, or what a DEQUANTIZE makes it from."""
    graph = model.subgraphs[0]
    for operator in graph.operators:
        if index in operator.outputs and operator_name(model, operator) == "DEQUANTIZE":
            return graph.tensors[operator.inputs[0]]
    return graph.tensors[index]
