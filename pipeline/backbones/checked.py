"""Converts a backbone and compares the result with Keras: no other is written."""

import numpy as np

from pipeline.backbones.build import convert, largest_difference
from pipeline.backbones.quiet_tensorflow import keras
from pipeline.config.backbone import BackboneConfig
from pipeline.errors import ModelError
from pipeline.litert.probes import probes

MAX_DIFFERENCE = 1e-4  # between Keras and LiteRT, as a share of the largest feature; rounding alone gives about 1e-6


def convert_checked(model: keras.Model, config: BackboneConfig) -> tuple[bytes, float]:
    """Convert a backbone to LiteRT.

    Args:
        model: From uint8 [1, input_pixels, input_pixels, 3] to float32 [1, feature_length].
        config: Its name and the side of its picture.

    Returns:
        The .tflite file, and the largest difference of a feature from Keras on a few pictures, as a share of the
        largest feature.

    Raises:
        ModelError: If LiteRT answers differently than Keras.
    """
    content = convert(model)
    difference = largest_difference(model, content, np.stack(probes(config.input_pixels)))
    if not difference <= MAX_DIFFERENCE:  # also refuses NaN
        raise ModelError(
            found=f"the converted {config.name} differs from Keras by {difference:.2g}",
            expected=f"features within {MAX_DIFFERENCE:g} of the largest",
            remedy="a TensorFlow or LiteRT of another version than the lock file's may be installed: run `make setup`",
        )
    return content, difference
