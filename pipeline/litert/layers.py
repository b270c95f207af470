"""The layers of a network that have weights, and how many bits a scheme leaves them."""

from typing import Any

from pipeline.litert.flatbuffer import operator_name

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_ENOUGH = 8


def first_layer(model: Any) -> Any | None:
    """Return the first operator that has weights: the one that sees the picture. None if no operator has any."""
    return next((one for one in model.subgraphs[0].operators if operator_name(model, one) in WEIGHTED), None)


def bits_of_weights(model: Any, operator: Any, weight_bits: int) -> int:
    """Return the bits of a layer's weights in a scheme of so many bits.

    Of fewer than 8 bits, depthwise convolutions have no kernel. The first layer has no fast one, as it sees an odd
    number of channels, three; and so few weights that nobody notices them in the file.

    Args:
        model: The schema's `ModelT`.
        operator: One of `WEIGHTED`, of that model.
        weight_bits: Of the scheme.
    """
    keeps_enough = operator_name(model, operator) == "DEPTHWISE_CONV_2D" or operator is first_layer(model)
    return max(weight_bits, _ENOUGH) if keeps_enough else weight_bits
