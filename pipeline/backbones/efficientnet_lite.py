"""EfficientNet-Lite, a family of convolutional networks made for phones.

Architecture: M. Tan and Q. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
https://arxiv.org/abs/1905.11946, with the changes of the Lite variants: no squeeze-and-excite, ReLU6 in place of
swish, stem and head of one size in all variants,
https://github.com/tensorflow/tpu/blob/master/models/official/efficientnet/lite/README.md
"""

import math
import re
from typing import NamedTuple

import numpy as np

from pipeline.backbones.normalization import normalized
from pipeline.backbones.quiet_tensorflow import keras
from pipeline.config.backbone import BackboneConfig
from pipeline.errors import ConfigurationError, ModelError

NUM_STEM_CHANNELS = 32
FEATURE_LENGTH = 1280
MIN_INPUT_PIXELS = 32  # the network halves the picture five times
BATCH_NORM_EPSILON = 1e-3

# timm's names, https://github.com/huggingface/pytorch-image-models: stage and block, then the layer.
_TIMM_BLOCK = re.compile(r"blocks\.(\d+)\.(\d+)\.(.+)")
_TIMM_LAYERS = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
_TIMM_FIRST_BLOCK = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
_TIMM_OTHER_BLOCKS = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}


class Stage(NamedTuple):
    """Some blocks of the same kind in a row; the first of them has the stride."""

    num_blocks: int
    kernel_pixels: int
    stride_pixels: int
    expansion: int
    num_channels: int


# Table 1 of the paper, EfficientNet-B0.
STAGES = (
    Stage(num_blocks=1, kernel_pixels=3, stride_pixels=1, expansion=1, num_channels=16),
    Stage(num_blocks=2, kernel_pixels=3, stride_pixels=2, expansion=6, num_channels=24),
    Stage(num_blocks=2, kernel_pixels=5, stride_pixels=2, expansion=6, num_channels=40),
    Stage(num_blocks=3, kernel_pixels=3, stride_pixels=2, expansion=6, num_channels=80),
    Stage(num_blocks=3, kernel_pixels=5, stride_pixels=1, expansion=6, num_channels=112),
    Stage(num_blocks=4, kernel_pixels=5, stride_pixels=2, expansion=6, num_channels=192),
    Stage(num_blocks=1, kernel_pixels=3, stride_pixels=1, expansion=6, num_channels=320),
)


def build(config: BackboneConfig, *, num_classes: int | None = None, batch_size: int | None = 1) -> keras.Model:
    """Build the network with random weights.

    Args:
        config: width is a factor on the number of channels of every stage (stem and head keep theirs), depth one on
            the number of blocks of every stage but the first and the last; input_pixels is at least 32 and need not be
            a multiple of anything.
        num_classes: None for the feature vector; a number for a classifier on top of it.
        batch_size: Pictures a call; None for any number.

    Returns:
        A model from "image", uint8 [batch_size, input_pixels, input_pixels, 3], RGB 0..255, to "features", float32
        [batch_size, 1280], 0..6, or to "fc", float32 probabilities [batch_size, num_classes].

    Raises:
        ConfigurationError: input_pixels is too small, or mean or std cannot be used (see `normalized`).
    """
    input_pixels = config.input_pixels
    if input_pixels < MIN_INPUT_PIXELS:
        raise ConfigurationError(
            found=f"input_pixels: {input_pixels}",
            expected=f"at least {MIN_INPUT_PIXELS}; EfficientNet-Lite halves the picture five times",
            remedy="raise input_pixels in conf/backbone/; 128 to 260 are sensible for pretrained weights",
        )
    image = keras.Input((input_pixels, input_pixels, 3), batch_size=batch_size, dtype="uint8", name="image")
    x = normalized(image, config, "normalization", channels=config.channels)
    x = _convolution(x, "_conv_stem", "_bn0", NUM_STEM_CHANNELS, kernel_pixels=3, stride_pixels=2)
    x = _blocks(x, config.width, config.depth)
    x = _convolution(x, "_conv_head", "_bn1", FEATURE_LENGTH)
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    if num_classes is not None:
        x = keras.layers.Dense(num_classes, activation="softmax", name=_layer_name("_fc"))(x)
    return keras.Model(image, x, name="efficientnet_lite")


def load_weights(model: keras.Model, state_dict: dict[str, np.ndarray], name: str) -> None:
    """Give every layer its weights.

    Args:
        model: What `build` returned.
        state_dict: Weights by torch's names and in torch's layouts. Counters (`num_batches_tracked`) are ignored, and
            so is the classifier (`_fc`) where the model has none.
        name: What to call the weights in errors.

    Raises:
        ModelError: A layer finds no weights or weights of another shape, or weights find no layer.
    """
    unused = {key for key in state_dict if not key.endswith(".num_batches_tracked")}
    if "fc" not in {layer.name for layer in model.layers}:
        unused -= {"_fc.weight", "_fc.bias"}
    for layer in model.layers:
        entries = [(f"{_state_dict_name(layer.name)}.{part}", axes) for part, axes in _parts(layer)]
        layer.set_weights(
            [
                _entry(state_dict, key, axes, tuple(variable.shape), f"{name}: layer {layer.name}")
                for (key, axes), variable in zip(entries, layer.weights, strict=True)
            ]
        )
        unused -= {key for key, _ in entries}
    if unused:
        raise ModelError(
            found=f"{name} has weights that no layer of the model takes: {', '.join(sorted(unused))}",
            expected="the weights of this very architecture",
            remedy="make width and depth in conf/backbone/ those that the weights were trained with",
        )


def without_timm_names(state_dict: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give tensors that have timm's names (`blocks.1.0.conv_pw.weight`) the names that `load_weights` knows.

    Args:
        state_dict: Tensors by name; other names than timm's stay as they are.
    """
    if "conv_stem.weight" not in state_dict:
        return state_dict
    blocks = sorted({(int(m[1]), int(m[2])) for m in map(_TIMM_BLOCK.match, state_dict) if m})
    return {_name_from_timm(name, blocks): value for name, value in state_dict.items()}


def _name_from_timm(name: str, blocks: list[tuple[int, int]]) -> str:
    match = _TIMM_BLOCK.match(name)
    layer, _, part = (match[3] if match else name).rpartition(".")
    if not match:
        return f"{_TIMM_LAYERS.get(layer, layer)}.{part}"
    names = _TIMM_FIRST_BLOCK if match[1] == "0" else _TIMM_OTHER_BLOCKS
    index = blocks.index((int(match[1]), int(match[2])))
    return f"_blocks.{index}.{names.get(layer, layer)}.{part}"


def _blocks(x: keras.KerasTensor, width: float, depth: float) -> keras.KerasTensor:
    """Append all stages: feature maps [1, h, w, 32] -> [1, h / 16, w / 16, channels of the last stage]."""
    index = 0
    for stage in STAGES:
        ends = stage in (STAGES[0], STAGES[-1])  # the Lite variants repeat neither
        for repetition in range(stage.num_blocks if ends else math.ceil(stage.num_blocks * depth)):
            x = _block(
                x,
                f"_blocks.{index}",
                stage._replace(
                    num_channels=_scaled_channels(stage.num_channels, width),
                    stride_pixels=stage.stride_pixels if repetition == 0 else 1,
                ),
            )
            index += 1
    return x


def _block(x: keras.KerasTensor, prefix: str, stage: Stage) -> keras.KerasTensor:
    """Append an inverted residual: widen, filter each channel alone, narrow, and add the input where shapes allow."""
    num_channels = x.shape[-1]
    y = x
    if stage.expansion != 1:
        y = _convolution(y, f"{prefix}._expand_conv", f"{prefix}._bn0", num_channels * stage.expansion)
    depthwise = keras.layers.DepthwiseConv2D(
        stage.kernel_pixels,
        stage.stride_pixels,
        "same",
        use_bias=False,
        name=_layer_name(f"{prefix}._depthwise_conv"),
    )
    y = _batch_normalized(depthwise(y), f"{prefix}._bn1")
    y = _convolution(y, f"{prefix}._project_conv", f"{prefix}._bn2", stage.num_channels, activation=False)
    if stage.stride_pixels == 1 and num_channels == stage.num_channels:
        y = keras.layers.Add(name=_layer_name(f"{prefix}._add"))([x, y])
    return y


def _convolution(
    x: keras.KerasTensor,
    convolution_name: str,
    norm_name: str,
    num_channels: int,
    *,
    kernel_pixels: int = 1,
    stride_pixels: int = 1,
    activation: bool = True,
) -> keras.KerasTensor:
    """Append a convolution with its batch normalization and, unless told not to, ReLU6."""
    convolution = keras.layers.Conv2D(
        num_channels, kernel_pixels, stride_pixels, "same", use_bias=False, name=_layer_name(convolution_name)
    )
    return _batch_normalized(convolution(x), norm_name, activation=activation)


def _batch_normalized(x: keras.KerasTensor, name: str, *, activation: bool = True) -> keras.KerasTensor:
    x = keras.layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, name=_layer_name(name))(x)
    return keras.layers.ReLU(6.0, name=_layer_name(f"{name}-relu6"))(x) if activation else x


def _scaled_channels(num_channels: int, width: float) -> int:
    """Scale and round to a multiple of 8, never down by more than a tenth (round_filters of the authors' code)."""
    scaled = num_channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * scaled else rounded + 8


def _layer_name(state_dict_name: str) -> str:
    """Turn `_blocks.0._bn1` into `blocks-0-_bn1`.

    A layer's name must not begin with an underscore nor hold a dot: Keras' export fails on a dot, TFLiteConverter hides
    that failure, goes on another way and dies with "'NoneType' object has no attribute ...". All layers are named, for
    Keras' own names count up through the life of a process and would end up in the converted file.
    """
    return state_dict_name.removeprefix("_").replace(".", "-")


def _state_dict_name(layer_name: str) -> str:
    """Undo `_layer_name`."""
    return "_" + layer_name.replace("-", ".")


def _parts(layer: keras.layers.Layer) -> list[tuple[str, tuple[int, ...] | None]]:
    """List a layer's entries in a state dict, in Keras' order, each with how its axes turn into Keras' ones."""
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return [("weight", (2, 3, 0, 1))]  # (channel, 1, height, width) -> (height, width, channel, 1)
    if isinstance(layer, keras.layers.Conv2D):
        return [("weight", (2, 3, 1, 0))]  # (out, in, height, width) -> (height, width, in, out)
    if isinstance(layer, keras.layers.BatchNormalization):
        return [(part, None) for part in ("weight", "bias", "running_mean", "running_var")]
    if isinstance(layer, keras.layers.Dense):
        return [("weight", (1, 0)), ("bias", None)]
    return []


def _entry(
    state_dict: dict[str, np.ndarray], key: str, axes: tuple[int, ...] | None, shape: tuple[int, ...], name: str
) -> np.ndarray:
    """Return an entry in Keras' layout, checked against the shape (Keras' layout) that a layer needs."""
    value = state_dict.get(key)
    if value is not None and axes is not None and value.ndim == len(axes):
        value = value.transpose(axes)
    if value is None or value.shape != shape:
        raise ModelError(
            found=f"{name} finds no {key}" if value is None else f"{name} finds {key} of shape {value.shape}",
            expected=f"an entry {key} of shape {shape} (in Keras' order of axes)",
            remedy="make width and depth in conf/backbone/ those that the weights were trained with",
        )
    return value
