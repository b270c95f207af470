"""Every architecture of Keras Applications, https://keras.io/api/applications/, as a backbone.

Keras builds the network, so that every file of weights which Keras publishes or saves fits it. Then the network is
built a second time, layer by layer and with the same weights, on this project's input: plain uint8 RGB. What Keras
would have normalized with is left out; (pixel - mean) / std takes its place, so that conf/backbone/ alone says it, and
BGR weights (ResNet's, which come from Caffe) get the channels of their first kernel swapped rather than the picture's:
that costs nothing and loses nothing to quantization.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any

from pipeline.backbones.normalization import normalized
from pipeline.backbones.quiet_tensorflow import keras
from pipeline.config.backbone import BackboneConfig
from pipeline.config.backbone_names import file_of
from pipeline.errors import ConfigurationError

_WORD_START = re.compile(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])")  # Keras: ZeroPadding2D is zero_padding2d
_AUTOMATIC_NAME = re.compile(r"([a-z0-9_]*?[a-z0-9])(?:_(\d+))?")


def network(config: BackboneConfig, num_classes: int | None = None) -> keras.Model:
    """Build the network as Keras has it, with random weights.

    Args:
        config: `application` names the constructor; `width` goes to it as alpha, where it takes one.
        num_classes: None for features; a number for a classifier on top of them.

    Returns:
        A model from float32 [n, input_pixels, input_pixels, 3] to features, float32 [n, feature_length], or to
        probabilities, float32 [n, num_classes]. It normalizes nothing, except that EfficientNet B0 to B7 begin with
        layers that do.

    Raises:
        ConfigurationError: There is no such application, it has no such width, or the picture is too small for it.
    """
    constructor = _constructor(config)
    if config.input_pixels < config.min_input_pixels:
        raise ConfigurationError(
            found=f"input_pixels: {config.input_pixels}",
            expected=f"at least {config.min_input_pixels}, the smallest picture that {config.name} takes",
            remedy="raise input_pixels in conf/backbone/; 128 and more are sensible for pretrained weights",
        )
    accepted = inspect.signature(constructor).parameters
    arguments: dict[str, Any] = {"include_top": num_classes is not None, "weights": None}
    arguments |= {"pooling": "avg"} if num_classes is None else {"classes": num_classes}
    if "include_preprocessing" in accepted:
        arguments["include_preprocessing"] = False
    if "alpha" in accepted:
        arguments["alpha"] = config.width
    elif config.width != 1:
        raise ConfigurationError(
            found=f"width: {config.width} in {file_of(config.name)}",
            expected=f"1.0; {config.application} comes in no other width",
            remedy="write width: 1.0, or choose an architecture with widths, such as mobilenet_v1 or mobilenet_v2",
        )
    return constructor(input_shape=(config.input_pixels, config.input_pixels, 3), **arguments)


def on_pictures(source: keras.Model, config: BackboneConfig, batch_size: int | None) -> keras.Model:
    """Build a network of Keras Applications anew on uint8 pictures, with the same weights.

    Args:
        source: What `network` returned, with its weights.
        config: Normalization and order of channels.
        batch_size: Pictures a call; None for any number.

    Returns:
        A flat model (no model within it) from "image", uint8 [batch_size, p, p, 3], RGB 0..255, to "features". Its
        layers have the names that Keras gives them in a new process.

    Raises:
        ConfigurationError: mean or std cannot be used (see `normalized`).
    """
    image = keras.Input(source.input.shape[1:], batch_size=batch_size, dtype="uint8", name="image")
    # BGR weights are swapped below instead
    copier = _Copier(source, image, normalized(image, config, "pixel_normalization", channels="rgb"))
    copied = keras.models.clone_model(
        source, input_tensors=image, clone_function=copier.copy, call_function=copier.call
    )
    model = keras.Model(image, copied.outputs[0], name=config.family)
    with_weights = [(old, new) for old, new in copier.pairs if old.weights]
    for position, (old, new) in enumerate(with_weights):
        weights = old.get_weights()
        if position == 0 and config.channels == "bgr":
            weights[0] = weights[0][:, :, ::-1]  # (height, width, channel, filter)
        new.set_weights(weights)
    return model


def leaves(source: keras.Model) -> dict[str, keras.layers.Layer]:
    """Return the layers of a model and of the models within it, in order, by their names in a new process."""
    names = _names_of_a_new_process(source)
    found: dict[str, keras.layers.Layer] = {}
    for layer in source.layers:
        found |= leaves(layer) if isinstance(layer, keras.Model) else {names.get(layer.name, layer.name): layer}
    return found


class _LayerNormalization(keras.layers.LayerNormalization):  # type: ignore[misc]  # Keras is untyped
    """The same numbers without negation, which the quantizer does not know."""

    def call(self, inputs: Any) -> Any:
        """Return (inputs - mean) / sqrt(variance + epsilon) * gamma + beta, over the last axis."""
        centered = inputs - keras.ops.mean(inputs, -1, keepdims=True)
        variance = keras.ops.mean(keras.ops.square(centered), -1, keepdims=True)
        return centered * keras.ops.rsqrt(variance + self.epsilon) * self.gamma + self.beta


class _Copier:
    """Copies layers one by one and calls the copies, for keras.models.clone_model.

    Attributes:
        pairs: Every layer with its copy, in the order of the graph.
    """

    def __init__(self, source: keras.Model, image: keras.KerasTensor, pixels: keras.KerasTensor) -> None:
        self.pairs: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []
        self._image, self._pixels = image, pixels
        self._names = _names_of_a_new_process(source)
        self._last = source.layers[-1]

    def copy(self, layer: keras.layers.Layer) -> Any:
        """Return a copy with new weights; a sequence of copies for a model within the model."""
        if isinstance(layer, keras.Sequential):
            return [self.copy(inner) for inner in layer.layers]
        settings = layer.get_config()
        settings["name"] = "features" if layer is self._last else self._names.get(layer.name, layer.name)
        kind = _LayerNormalization if isinstance(layer, keras.layers.LayerNormalization) else layer.__class__
        copied = kind.from_config(settings)
        if isinstance(layer, keras.layers.Layer):
            self.pairs.append((layer, copied))
        return copied

    def call(self, layer: Any, *arguments: Any, **settings: Any) -> Any:
        """Call a copy; leave out what Keras normalizes with, and put our own normalization in front of the rest."""
        if isinstance(layer, list):
            (x,) = arguments
            for inner in layer:
                x = self.call(inner, x)
            return x
        if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
            self.pairs = [pair for pair in self.pairs if pair[1] is not layer]
            return arguments[0]
        return layer(*(self._pixels if argument is self._image else argument for argument in arguments), **settings)


def _names_of_a_new_process(source: keras.Model) -> dict[str, str]:
    """Return new names for layers that Keras has named itself.

    Keras counts such names (`activation_17`) up through the life of a process; they would end up in the converted
    file, which must be the same in every process. Here each kind counts from nothing again.
    """
    numbers: dict[str, dict[str, int]] = {}
    for layer in source.layers:
        prefix = _WORD_START.sub("_", layer.__class__.__name__).lower()
        match = _AUTOMATIC_NAME.fullmatch(layer.name)
        if match and match[1] == prefix:
            numbers.setdefault(prefix, {})[layer.name] = int(match[2] or 0)
    return {
        name: f"{prefix}_{number - min(found.values())}" if number > min(found.values()) else prefix
        for prefix, found in numbers.items()
        for name, number in found.items()
    }


def _constructor(config: BackboneConfig) -> Callable[..., keras.Model]:
    names = [name for name in dir(keras.applications) if name[0].isupper()]
    if config.application not in names:
        raise ConfigurationError(
            found=f"application: {config.application} in {file_of(config.name)}",
            expected=f"one of {', '.join(names)}",
            remedy="correct application in that file",
        )
    constructor: Callable[..., keras.Model] = getattr(keras.applications, config.application)
    return constructor
