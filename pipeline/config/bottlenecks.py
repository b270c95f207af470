"""What `python -m pipeline.bottlenecks` takes: the choices of backbone, scheme and resize, and what is trained."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.backbone import BackboneConfig
from pipeline.config.quantization import QuantizationConfig


@dataclass
class BottlenecksStage:
    """Configuration of `python -m pipeline.bottlenecks`."""

    resize: str = MISSING
    backbone: BackboneConfig = MISSING
    quantization: QuantizationConfig = MISSING
    mode: str = MISSING
