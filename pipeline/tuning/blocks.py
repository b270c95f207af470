"""Finds the blocks of a backbone in its graph, whatever it is built of, and parts it between two of them."""

import math
from collections import Counter

from pipeline.backbones.quiet_tensorflow import keras
from pipeline.config.finetune import WHOLE_BACKBONE
from pipeline.errors import ConfigurationError

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)


def boundaries(backbone: keras.Model) -> list[keras.KerasTensor]:
    """Return the tensors that lie between the blocks of a backbone, from the picture to the features.

    A block is what surrounds a convolution with a kernel larger than 1 x 1, of which an architecture has one or few in
    each of its repeated parts. A boundary is a tensor that everything flows through (so it lies outside of residual
    connections and between concatenations); of those between two blocks it is the smallest, and the last of equals. So
    the inverted residuals of MobileNet V2 and EfficientNet begin at their narrow end, and ResNet's blocks behind their
    addition.

    Args:
        backbone: A flat functional model, each of whose layers is called once.
    """
    groups: list[list[keras.KerasTensor]] = [[]]
    for operation, gates in _gates(backbone):
        if isinstance(operation, _CONVOLUTIONS) and max(operation.kernel_size) > 1:
            groups.append([])
        groups[-1] += gates
    # What lies before the first such convolution is the picture, what lies behind the last leads to the features.
    return [_narrowest(group) for group in groups[1:-1] if group]


def input_of_last_blocks(backbone: keras.Model, blocks: int) -> keras.KerasTensor:
    """Return the tensor that the last blocks begin with; the picture for all of them.

    Args:
        backbone: A flat functional model, each of whose layers is called once.
        blocks: How many; -1 for the whole backbone.

    Raises:
        ConfigurationError: If the backbone has fewer blocks.
    """
    if blocks == WHOLE_BACKBONE:
        return backbone.inputs[0]
    found = boundaries(backbone)
    if not 1 <= blocks <= len(found):
        raise ConfigurationError(
            found=f"finetune.blocks: {blocks}",
            expected=f"1 to {len(found)}, the blocks of this backbone, or {WHOLE_BACKBONE} (all of it)",
            remedy="correct `finetune.blocks` in params.yaml",
        )
    return found[-blocks]


def lower_part(backbone: keras.Model, boundary: keras.KerasTensor) -> keras.Model:
    """Return what leads from the picture to a boundary, as a backbone whose feature vector is the flat boundary."""
    flat = keras.layers.Reshape((math.prod(boundary.shape[1:]),), name="lower_features")(boundary)
    return keras.Model(backbone.inputs[0], flat, name="lower_part")


def upper_part(backbone: keras.Model, boundary: keras.KerasTensor) -> keras.Model:
    """Return what leads from a boundary to the features. Its layers are those of the backbone."""
    return keras.Model(boundary, backbone.outputs[0], name="upper_part")


def _gates(backbone: keras.Model) -> list[tuple[keras.Operation, list[keras.KerasTensor]]]:
    """Return each operation, in the order of the graph, with its output if everything flows through that one.

    Once all operations up to here have run, the tensors that a later one takes are alive. Is only one alive, then
    nothing bypasses it.
    """
    users = Counter(id(tensor) for operation in backbone.operations for tensor in _inputs(operation))
    found, alive = [], Counter[int]()
    for operation in backbone.operations:
        for tensor in _inputs(operation):
            alive[id(tensor)] -= 1
        outputs = keras.tree.flatten(operation.output)
        alive.update({id(tensor): users[id(tensor)] for tensor in outputs})
        alive = +alive  # drops those that are not needed any more
        found.append((operation, [tensor for tensor in outputs if set(alive) == {id(tensor)}]))
    return found


def _inputs(operation: keras.Operation) -> list[keras.KerasTensor]:
    return [] if isinstance(operation, keras.layers.InputLayer) else keras.tree.flatten(operation.input)


def _narrowest(tensors: list[keras.KerasTensor]) -> keras.KerasTensor:
    """Return the tensor with the fewest numbers for a picture, the last of equals."""
    return min(reversed(tensors), key=lambda tensor: math.prod(tensor.shape[1:]))
