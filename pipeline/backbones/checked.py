"""Converts a backbone and compares the result with Keras: no other is written."""

import numpy as np
import numpy.typing as npt

from pipeline.backbones.build import convert, largest_difference
from pipeline.backbones.quiet_tensorflow import keras
from pipeline.config.backbone import BackboneConfig
from pipeline.errors import ModelError

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
    difference = largest_difference(model, content, _probes(config.input_pixels))
    if not difference <= MAX_DIFFERENCE:  # also refuses NaN
        raise ModelError(
            found=f"the converted {config.name} differs from Keras by {difference:.2g}",
            expected=f"features within {MAX_DIFFERENCE:g} of the largest",
            remedy="a TensorFlow or LiteRT of another version than the lock file's may be installed: run `make setup`",
        )
    return content, difference


def _probes(input_pixels: int) -> npt.NDArray[np.uint8]:
    """Return a few pictures, uint8 [n, p, p, 3]: grey, noise and ramps, which reach small and large activations."""
    generator = np.random.default_rng(0)
    shape = (input_pixels, input_pixels, 3)
    ramp = np.broadcast_to(np.linspace(0, 255, input_pixels)[None, :, None], shape)
    pictures = [np.full(shape, 127), generator.integers(0, 256, shape), ramp, 255 - ramp.transpose(1, 0, 2)]
    return np.stack(pictures).astype(np.uint8)
