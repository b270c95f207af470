"""What conf/backbone/<choice>.yaml may hold."""

import math
from dataclasses import dataclass, field

from omegaconf import MISSING

from pipeline.config.ranges import between, one_of
from pipeline.errors import ConfigurationError

CHANNELS = ("rgb", "bgr")
OWN_FILE = "own_file"
FAMILIES = ("efficientnet_lite", "applications", OWN_FILE)
_MAX_FACTOR, _MAX_PIXELS, _MAX_FEATURES = 10, 4096, 100_000
_NUM_CHANNELS = 3


@dataclass
class PublishedFigures:
    """What the authors published for one width and resolution; None where they published nothing.

    Attributes:
        num_parameters: With the ImageNet classifier.
        num_multiply_adds: For one picture.
        imagenet_top1_percent: In float32, percent of the validation pictures.
    """

    num_parameters: int | None = None
    num_multiply_adds: int | None = None
    imagenet_top1_percent: float | None = None


@dataclass
class BackboneConfig:
    """A backbone: its architecture, the picture that it takes, its weights, and what its authors published.

    Each value stands in conf/backbone/<name>.yaml with its meaning, its unit and its source. What an architecture has
    no use for is left out there; the defaults here stand for "none".

    Attributes:
        name: This choice, as params.yaml names it.
        family: How it is built: a module in pipeline/backbones/.
        application: Name of the constructor in keras.applications, with `family: applications`.
        width: Factor on the number of channels.
        depth: Factor on the number of blocks.
        widths: Published widths; empty if the architecture has none.
        resolutions: Sides of the input, in pixels, with weights or published figures of their own; empty if there is
            only one.
        input_pixels: Width and height of the input picture.
        min_input_pixels: The smallest picture that the architecture takes.
        feature_length: Numbers in a bottleneck (feature vector) at width 1, or at the only width.
        feature_lengths: The same for widths at which it differs, by `width_key`.
        mean: The graph computes (pixel - mean) / std, pixels 0..255; one number, or one for each of red, green, blue.
        std: See mean.
        channels: The order of channels that the weights were trained on. The picture is RGB in any case.
        weights: `package`, `imagenet`, `random`, or the path of a file.
        weights_package: Import name of the package, with `weights: package`.
        weights_url: Where `weights: imagenet` comes from; {width}, {width_digits} and {pixels} are filled in.
        weights_hashes: MD5 or SHA-256 of the files behind weights_url, as their authors publish them; the file must
            have one of them. Empty if they publish none.
        weights_sha256: Of the package's or the path's file.
        features: Name of the tensor that holds the features in a .tflite file of one's own; empty for its output.
        num_parameters: Published, with the ImageNet classifier, at this width.
        num_multiply_adds: Published, for one picture at this width and input_pixels.
        imagenet_top1_percent: Published, float32, percent of the validation pictures.
        source: Of what is published.
        published: The same figures by `figures_key`, for every width and resolution.
    """

    name: str = MISSING
    family: str = MISSING
    application: str = ""
    width: float = MISSING
    depth: float = MISSING
    widths: list[float] = field(default_factory=list)
    resolutions: list[int] = field(default_factory=list)
    input_pixels: int = MISSING
    min_input_pixels: int = 32
    feature_length: int = MISSING
    feature_lengths: dict[str, int] = field(default_factory=dict)
    mean: list[float] = MISSING
    std: list[float] = MISSING
    channels: str = "rgb"
    weights: str = MISSING
    weights_package: str = ""
    weights_url: str = ""
    weights_hashes: list[str] = field(default_factory=list)
    weights_sha256: str = ""
    features: str = ""
    num_parameters: int | None = None
    num_multiply_adds: int | None = None
    imagenet_top1_percent: float | None = None
    source: str | None = None
    published: dict[str, PublishedFigures] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what can be checked without building the network.

        Raises:
            ConfigurationError: If a choice does not exist, or a number is out of any reason.
        """
        one_of("backbone.channels", self.channels, CHANNELS)
        if self.family != MISSING:
            one_of("backbone.family", self.family, FAMILIES)
        limits = {"width": (0.01, _MAX_FACTOR), "depth": (0.01, _MAX_FACTOR)}
        limits |= {"input_pixels": (1, _MAX_PIXELS), "min_input_pixels": (1, _MAX_PIXELS)}
        limits |= {"feature_length": (1, _MAX_FEATURES)}
        for key, (low, high) in limits.items():
            if getattr(self, key) != MISSING:
                between(f"backbone.{key}", getattr(self, key), low, high)
        for key in ("mean", "std"):
            if getattr(self, key) != MISSING:
                _check_numbers(key, getattr(self, key))


def _check_numbers(key: str, numbers: list[float]) -> None:
    """Refuse a mean or a std that normalizes nothing."""
    if len(numbers) in (1, _NUM_CHANNELS) and all(map(math.isfinite, numbers)) and (key == "mean" or 0 not in numbers):
        return
    raise ConfigurationError(
        found=f"backbone.{key}: {numbers}",
        expected=f"one number for all channels, or {_NUM_CHANNELS} for red, green and blue"
        + (", none of them 0" if key == "std" else ""),
        remedy=f"correct {key} in the backbone's file in conf/backbone/; pixels are 0..255",
    )


@dataclass
class BackboneStage:
    """Configuration of `python -m pipeline.backbone`."""

    backbone: BackboneConfig = MISSING


def width_key(width: float) -> str:
    """Return a width in percent, as 3 digits: 0.5 is "050"."""
    return f"{round(width * 100):03d}"


def figures_key(config: BackboneConfig) -> str:
    """Return the key of a configuration in `published`: "050_160", or "299" for an architecture without widths."""
    return f"{width_key(config.width)}_{config.input_pixels}" if config.widths else str(config.input_pixels)


def published_figures(config: BackboneConfig) -> PublishedFigures:
    """Return what is published for a configuration's very width and resolution; all None if nothing is."""
    return config.published.get(figures_key(config), PublishedFigures())


def expected_feature_length(config: BackboneConfig) -> int:
    """Return the length of a configuration's feature vector."""
    return config.feature_lengths.get(width_key(config.width), config.feature_length)
