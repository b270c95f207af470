"""The probability that a picture shows none of the labels, which a head computes and its classifier leaves out."""

from pipeline.litert.flatbuffer import EVERY_PROBABILITY_NAME, num_backbone_operators, read_model, write_model
from pipeline.litert.unused import drop_unused


def with_none(content: bytes) -> bytes | None:
    """Let the first head of a classifier give also the probability that a picture shows none of its labels.

    It stands behind those of the labels.

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
    graph.outputs, model.signatureDefs, model.metadata = [*every, *map(int, graph.outputs[1:])], [], []
    drop_unused(model)
    return write_model(model)
