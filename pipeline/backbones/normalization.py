"""From a picture's pixels to what a network was trained on: the first layers of every backbone."""

from typing import Any

from pipeline.backbones.quiet_tensorflow import keras
from pipeline.config.backbone import BackboneConfig


def normalized(image: keras.KerasTensor, config: BackboneConfig, name: str, *, channels: str) -> keras.KerasTensor:
    """Append (pixel - mean) / std, as one multiplication and one addition, which stay plain when quantized.

    Args:
        image: uint8 [n, h, w, 3], RGB 0..255.
        config: `mean` and `std` hold one number, or three in the order red, green, blue, whatever `channels` says.
        name: Of the layer that normalizes.
        channels: What the network takes, `rgb` or `bgr`: config.channels, unless the weights take care of it. The bytes
            of the picture are swapped, before they are numbers that a quantizer could round.

    Returns:
        float32 [n, h, w, 3], in the order of `channels`.

    """
    mean, std = config.mean, config.std
    if channels == "bgr":
        image, mean, std = _Bgr(name="rgb_to_bgr")(image), mean[::-1], std[::-1]
    scale = [1 / value for value in std]
    offset = [-center / value for center, value in zip(*_same_length(mean, std), strict=True)]
    single = len(scale) == len(offset) == 1
    return keras.layers.Rescaling(scale[0] if single else scale, offset[0] if single else offset, name=name)(image)


class _Bgr(keras.layers.Layer):  # type: ignore[misc]  # Keras is untyped
    """Swaps red and blue; a layer, for a bare operation would get a name that depends on what was built before."""

    def call(self, image: Any) -> Any:
        """Return [n, h, w, 3] with the last axis reversed, of the same type."""
        return keras.ops.flip(image, -1)


def _same_length(mean: list[float], std: list[float]) -> tuple[list[float], list[float]]:
    length = max(len(mean), len(std))
    return (mean * length if len(mean) == 1 else mean), (std * length if len(std) == 1 else std)
