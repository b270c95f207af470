"""A classifier: a quantized backbone with a head behind it and the labels inside."""

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.heads.head_file import Head
from pipeline.litert.head import append_head
from pipeline.litert.metadata import FIRST_OUTPUT, Output, embed_outputs

_NO_HEADS: Mapping[str, Head] = MappingProxyType({})


def classifier(backbone: bytes, head: Head, *, name: str, further: Mapping[str, Head] = _NO_HEADS) -> bytes:
    """Return a .tflite file with the backbone's operators, the heads', and labels and thresholds as metadata.

    Args:
        backbone: A .tflite file that gives features.
        head: Trained on such features.
        name: Of backbone and scheme, for the metadata.
        further: More heads on the same features, each an output under its name, in this order.
    """
    model = append_head(backbone, head.weights, head.bias, len(head.labels))
    for output, one in further.items():
        model = append_head(
            model,
            one.weights,
            one.bias,
            len(one.labels),
            name=output,
            labels_exclude_each_other=one.labels_exclude_each_other,
        )
    return embed_outputs(
        model,
        [Output(output, one.labels, one.threshold) for output, one in ({FIRST_OUTPUT: head} | dict(further)).items()],
        name=name,
        description="Image classifier made by Viewfinder. Input: the whole picture, RGB, 0..255.",
    )
