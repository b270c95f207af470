"""What conf/backbone/<choice>.yaml may hold."""

from dataclasses import dataclass, field

from omegaconf import MISSING


@dataclass
class PublishedFigures:
    """What the authors published for one width and resolution; None where they published nothing."""

    num_parameters: int | None = None
    num_multiply_adds: int | None = None
    imagenet_top1_percent: float | None = None


@dataclass
class BackboneConfig:
    """A backbone: its architecture, the picture that it takes, its weights, and what its authors published.

    Each value stands in conf/backbone/<name>.yaml with its meaning, its unit and its source.
    """

    name: str = MISSING
    family: str = MISSING
    width: float = MISSING
    depth: float = MISSING
    widths: list[float] = field(default_factory=list)
    resolutions: list[int] = field(default_factory=list)
    input_pixels: int = MISSING
    min_input_pixels: int = 32
    feature_length: int = MISSING
    mean: float = MISSING
    std: float = MISSING
    weights: str = MISSING
    weights_package: str = MISSING
    weights_sha256: str = MISSING
    num_parameters: int | None = None
    num_multiply_adds: int | None = None
    imagenet_top1_percent: float | None = None
    source: str = MISSING
    published: dict[str, PublishedFigures] = field(default_factory=dict)


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
