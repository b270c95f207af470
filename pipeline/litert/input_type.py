"""Changes in which type of number a shipped model takes its pixels.

The pipeline's models take a camera's bytes, uint8: nobody can normalize these wrongly. Their first operator makes
float32 numbers of them, and GPU delegates and microcontrollers refuse that operator. The same model without it takes
the same numbers, 0 to 255, as float32; every operator behind it is the same, and so is every answer.
"""

from ai_edge_litert import schema_py_generated as schema

from pipeline.errors import ModelError
from pipeline.litert.flatbuffer import operator_name, read_model, write_model
from pipeline.litert.metadata import read_outputs, with_labels


def with_float_input(content: bytes) -> bytes:
    """Let a classifier take its pixels as float32, 0..255.

    Args:
        content: A .tflite classifier with embedded labels that takes uint8 [1, p, p, 3] and whose first operator makes
            float32 of it.

    Returns:
        A .tflite file that takes float32 [1, p, p, 3] and is otherwise as it was; equal arguments give equal bytes.

    Raises:
        ModelError: If the model does not begin so.
    """
    model = read_model(content)
    graph = model.subgraphs[0]
    pixels = int(graph.inputs[0])
    readers = [operator for operator in graph.operators if pixels in operator.inputs]
    names = [operator_name(model, operator) for operator in readers]
    if len(graph.inputs) != 1 or names != ["CAST"]:
        raise _refusal(f"a model whose pixels go into {', '.join(names) or 'nothing'}")
    (cast,) = readers
    floats = int(cast.outputs[0])
    if graph.tensors[floats].type != schema.TensorType.FLOAT32:
        raise _refusal("a model whose pixels do not become float32")
    graph.operators.remove(cast)
    graph.inputs = [floats]
    graph.tensors[floats].name = graph.tensors[pixels].name
    graph.tensors[pixels].name = b"unused"
    for signature in model.signatureDefs or []:
        for entry in signature.inputs:
            entry.tensorIndex = floats
    return with_labels(write_model(model), read_outputs(content))


def _refusal(found: str) -> ModelError:
    return ModelError(
        found=found,
        expected="uint8 pixels that a CAST to float32 alone reads, as in every model of the stage `assemble`",
        remedy="set `inference_input_type: uint8` in params.yaml",
    )
