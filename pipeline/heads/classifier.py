"""A classifier: a quantized backbone with a head behind it and the labels inside."""

from pipeline.heads.head_file import Head
from pipeline.litert.head import append_head
from pipeline.litert.metadata import embed_labels


def classifier(backbone: bytes, head: Head, *, name: str) -> bytes:
    """Return a .tflite file with the backbone's operators, the head's, and labels and threshold as metadata.

    Args:
        backbone: A .tflite file that gives features.
        head: Trained on such features.
        name: Of backbone and scheme, for the metadata.
    """
    return embed_labels(
        append_head(backbone, head.weights, head.bias, len(head.labels)),
        head.labels,
        name=name,
        description="Image classifier made by Viewfinder. Input: the whole picture, RGB, 0..255.",
        threshold=head.threshold,
    )
