"""Puts a trained head on a backbone, inside the .tflite file.

Converting backbone and head together would quantize the backbone anew. Here two to five operators are appended to the
very graph that computed the bottlenecks, so the features inside the shipped model are those bottlenecks, bit for bit.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from pipeline.errors import ModelError
from pipeline.litert.flatbuffer import (
    AS_PICTURE_NAME,
    EVERY_PROBABILITY_NAME,
    LOGITS_NAME,
    METADATA_NAME,
    PART_NAME,
    PROBABILITIES_NAME,
    num_backbone_operators,
    read_model,
    write_model,
)
from pipeline.litert.operators import add_operator, add_reshape, add_tensor

FEATURES_NAME = b"features"


def append_head(
    backbone: bytes,
    weights: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    num_labels: int | None = None,
) -> bytes:
    """Append softmax(features @ weights + bias) to a backbone, in float32.

    Args:
        backbone: A .tflite file with one output float32 [1, num_features].
        weights: float32 [num_features, num_outputs].
        bias: float32 [num_outputs].
        num_labels: How many of the probabilities the model gives, the first ones; None means all. The others are what
            these lack to 1.

    Returns:
        A .tflite file whose only output is `probabilities`, float32 [1, num_labels]; equal arguments give equal bytes.

    Raises:
        ModelError: If it is no TensorFlow Lite model.
        ValueError: If the shapes do not fit together.
    """
    model = read_model(backbone)
    graph = model.subgraphs[0]
    features = int(graph.outputs[0])
    num_features = int(graph.tensors[features].shape[-1])
    num_outputs = len(bias)
    if weights.shape != (num_features, num_outputs):
        raise ValueError(
            f"the head's weights have shape {weights.shape} and its bias {bias.shape};"
            f" expected ({num_features}, outputs) and (outputs,), as the backbone gives {num_features} features"
        )
    weights_tensor = add_tensor(model, b"head/weights", [num_outputs, num_features], weights.T)
    bias_tensor = add_tensor(model, b"head/bias", [num_outputs], bias)
    logits = add_tensor(model, LOGITS_NAME, [1, num_outputs])
    is_whole = num_labels in (None, num_outputs)
    softmax_name = PROBABILITIES_NAME if is_whole else EVERY_PROBABILITY_NAME
    probabilities = add_tensor(model, softmax_name, [1, num_outputs])
    add_operator(
        model, "FULLY_CONNECTED", [features, weights_tensor, bias_tensor], logits, schema.FullyConnectedOptionsT()
    )
    add_operator(model, "SOFTMAX", [logits], probabilities, schema.SoftmaxOptionsT(beta=1.0))
    if num_labels is not None and not is_whole:
        probabilities = _first(model, probabilities, num_labels)
    _set_output(model, PROBABILITIES_NAME, probabilities)
    return write_model(model)


def append_softmax(content: bytes) -> bytes:
    """Append a softmax, in float32, to a classifier that gives logits, float32 [1, num_outputs].

    Raises:
        ModelError: If it is no TensorFlow Lite model.
    """
    model = read_model(content)
    logits = int(model.subgraphs[0].outputs[0])
    num_outputs = int(model.subgraphs[0].tensors[logits].shape[-1])
    probabilities = add_tensor(model, PROBABILITIES_NAME, [1, num_outputs])
    add_operator(model, "SOFTMAX", [logits], probabilities, schema.SoftmaxOptionsT(beta=1.0))
    _set_output(model, PROBABILITIES_NAME, probabilities)
    return write_model(model)


def features_of(content: bytes) -> bytes:
    """Cut the head off again.

    Args:
        content: A .tflite file made by `append_head`, with or without embedded labels.

    Returns:
        A .tflite file whose only output is the tensor that fed the head, float32 [1, num_features].

    Raises:
        ModelError: If it is no TensorFlow Lite model or has no head.
    """
    model = read_model(content)
    graph = model.subgraphs[0]
    num_operators = num_backbone_operators(model)
    if num_operators == len(graph.operators):
        raise ModelError(
            found="a model whose last operators are not a head of this pipeline",
            expected="a model that the stage `assemble` made",
            remedy="run `dvc repro` to make it",
        )
    features = int(graph.operators[num_operators].inputs[0])
    first_of_head = graph.operators[num_operators].inputs[1]  # the weights; all tensors behind them are the head's
    described = [entry for entry in model.metadata or [] if entry.name == METADATA_NAME]  # that is, the old output
    for part in (*graph.tensors[first_of_head:], *described):
        model.buffers[part.buffer].data = None
    del graph.operators[num_operators:], graph.tensors[first_of_head:]
    model.metadata = [entry for entry in model.metadata or [] if entry not in described]
    _set_output(model, FEATURES_NAME, features)
    return write_model(model)


def _first(model: Any, probabilities: int, num_labels: int) -> int:
    """Leave out all but the first columns, and return the index of the output.

    In between the row is a picture of one pixel: GPU delegates slice tensors of three and four dimensions alone.
    """
    num_outputs = int(model.subgraphs[0].tensors[probabilities].shape[-1])
    four, one, two = [1, 1, 1, num_outputs], [1, 1, 1, num_labels], [1, num_labels]
    begin = add_tensor(model, b"head/begin", [4], np.zeros(4, np.int32))
    size = add_tensor(model, b"head/size", [4], np.array(one, np.int32))
    as_picture, part = add_tensor(model, AS_PICTURE_NAME, four), add_tensor(model, PART_NAME, one)
    output = add_tensor(model, PROBABILITIES_NAME, two)
    add_reshape(model, probabilities, as_picture, four, b"head/shape")
    add_operator(model, "SLICE", [as_picture, begin, size], part, schema.SliceOptionsT())
    add_reshape(model, part, output, two, b"head/shape")
    return output


def _set_output(model: Any, name: bytes, tensor: int) -> None:
    model.subgraphs[0].outputs = [tensor]
    for signature in model.signatureDefs or []:
        signature.outputs = [schema.TensorMapT(name=name, tensorIndex=tensor)]
