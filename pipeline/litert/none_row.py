"""The probability that a picture shows none of the labels, which a head computes and its classifier leaves out."""

from pipeline.litert.flatbuffer import EVERY_PROBABILITY_NAME, num_backbone_operators, read_model, write_model
from pipeline.litert.unused import drop_unused


def with_none(content: bytes) -> bytes | None:
    """Let a classifier give also the probability that a picture shows none of its labels, behind those of the labels.

    Args:
        content: A .tflite file.

    Returns:
        A .tflite file without metadata for phones; None if the classifier's head knows nothing but its labels.

    Raises:
        ModelError: If it is no TensorFlow Lite model.
    """
    model = read_model(content)
    graph = model.subgraphs[0]
    of_head = graph.operators[num_backbone_operators(model) :]
    made = [int(operator.outputs[0]) for operator in of_head]
    every = [index for index in made if graph.tensors[index].name == EVERY_PROBABILITY_NAME]
    if not every:
        return None
    graph.outputs, model.signatureDefs, model.metadata = every, [], []
    drop_unused(model)
    return write_model(model)


def first_head_of(content: bytes) -> bytes:
    """Return a classifier without the heads beside the first; the same file if there are none.

    Args:
        content: A .tflite file.

    Raises:
        ModelError: If it is no TensorFlow Lite model.
    """
    model = read_model(content)
    graph = model.subgraphs[0]
    if len(graph.outputs) == 1:
        return content
    graph.outputs, model.signatureDefs, model.metadata = [int(graph.outputs[0])], [], []
    drop_unused(model)
    return write_model(model)
