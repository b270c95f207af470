"""What conf/backbone/<choice>.yaml may hold."""

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class BackboneConfig:
    """A backbone: its architecture, the picture that it takes, its weights, and what its authors published.

    Each value stands in conf/backbone/<name>.yaml with its meaning, its unit and its source.
    """

    name: str = MISSING
    family: str = MISSING
    width: float = MISSING
    depth: float = MISSING
    input_pixels: int = MISSING
    feature_length: int = MISSING
    mean: float = MISSING
    std: float = MISSING
    weights: str = MISSING
    weights_package: str = MISSING
    weights_sha256: str = MISSING
    num_parameters: int = MISSING
    num_multiply_adds: int = MISSING
    imagenet_top1_percent: float = MISSING
    source: str = MISSING


@dataclass
class BackboneStage:
    """Configuration of `python -m pipeline.backbone`."""

    backbone: BackboneConfig = MISSING
