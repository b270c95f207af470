"""What `python -m pipeline.assemble` takes: the choice of scheme, and the backbone's name."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.quantization import QuantizationConfig


@dataclass
class AssembleStage:
    """Configuration of `python -m pipeline.assemble`.

    Attributes:
        backbone: Name of the backbone, which the model's own description tells.
        quantization: The scheme.
    """

    backbone: str = MISSING
    quantization: QuantizationConfig = MISSING
