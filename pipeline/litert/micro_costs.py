"""Tells what a classifier would cost on a microcontroller, without making it: for limits and choices."""

import numpy as np

from pipeline.config.gate import MicroLimits
from pipeline.litert.flatbuffer import num_backbone_operators, read_model
from pipeline.litert.head import features_of
from pipeline.litert.micro import micro_classifier
from pipeline.litert.tflm import smallest_arena_bytes

MICRO_SCHEME = "int8"  # microcontrollers take no other


def micro_costs(content: bytes, scheme: str, limits: MicroLimits) -> dict[str, int]:
    """Return the costs that there are limits on.

    Args:
        content: A .tflite classifier of this pipeline, with its head.
        scheme: That it is quantized by.
        limits: Of which microcontroller.

    Returns:
        `flash_bytes` and `arena_bytes`, as `viewfinder mcu` tells them, each if there is a limit on it. Nothing for a
        scheme that runs on no microcontroller.

    Raises:
        MissingPackageError: If there is a limit on the arena, and TFLM is not installed.
        ModelError: If the model is of another form, or TFLM cannot run it.
    """
    if not limits or scheme != MICRO_SCHEME:
        return {}
    blank = blank_micro_classifier(content)
    measure = {"flash_bytes": len, "arena_bytes": smallest_arena_bytes}
    return {cost: measure[cost](blank) for cost in limits.by_cost()}


def blank_micro_classifier(content: bytes) -> bytes:
    """Return what `viewfinder mcu` makes of a classifier, with a head of zeros: it costs what any other head does.

    Args:
        content: A .tflite classifier of the scheme int8. Of several heads it is the first.

    Raises:
        ModelError: If it is of another form.
    """
    backbone, model = features_of(content), read_model(content)
    graph = model.subgraphs[0]
    fully_connected = graph.operators[num_backbone_operators(model)]
    shape = tuple(map(int, graph.tensors[fully_connected.inputs[1]].shape))  # [num_outputs, num_features]
    return micro_classifier(
        backbone,
        np.zeros(shape[::-1], np.float32),
        np.zeros(shape[:1], np.float32),
        num_labels=int(graph.tensors[graph.outputs[0]].shape[-1]),
        logit_range=(-1.0, 1.0),
    )
