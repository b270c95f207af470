"""What `python -m pipeline.quantize` takes: the choices of backbone and scheme."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.backbone import BackboneConfig
from pipeline.config.quantization import QuantizationConfig


@dataclass
class QuantizeStage:
    """Configuration of `python -m pipeline.quantize`."""

    backbone: BackboneConfig = MISSING
    quantization: QuantizationConfig = MISSING
