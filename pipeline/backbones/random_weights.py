"""Random weights, the same in every run: for tests and measurements of speed, never for a classifier."""

import math

import numpy as np

from pipeline.backbones.quiet_tensorflow import keras

_SEED = 0


def set_random_weights(model: keras.Model) -> None:
    """Give every layer weights that keep signals alive, as training would, but by chance.

    Kernels are drawn as in He et al., 2015, https://arxiv.org/abs/1502.01852; batch normalizations differ from channel
    to channel, so that a test can see channels that were mixed up.

    Args:
        model: Any model; all its weights are replaced.
    """
    generator = np.random.default_rng(_SEED)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            continue
        layer.set_weights([_drawn(variable, layer, generator) for variable in layer.weights])


def _drawn(variable: keras.Variable, layer: keras.layers.Layer, generator: np.random.Generator) -> np.ndarray:
    """Return values for a variable by what its name says that it is."""
    shape, name = tuple(variable.shape), variable.name
    if "kernel" in name:
        is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D) or "depthwise" in name
        num_inputs = math.prod(shape[:2] if is_depthwise else shape[:-1])
        return generator.normal(0, math.sqrt(2 / num_inputs), shape)
    if name in ("gamma", "moving_variance"):
        return generator.uniform(0.8, 1.2, shape)
    return generator.normal(0, 0.01, shape)  # biases, moving means; larger ones would drown the picture
