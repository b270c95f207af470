"""What `python -m pipeline.bottlenecks` takes: the choices of scheme and resize, and where takes are computed."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.engine import EngineConfig
from pipeline.config.quantization import QuantizationConfig


@dataclass
class BottlenecksStage:
    """Configuration of `python -m pipeline.bottlenecks`.

    Attributes:
        resize: How frames become inputs: `stretch` (what phones do), `crop` or `pad`.
        quantization: The scheme.
        engine: Where takes are computed.
    """

    resize: str = MISSING
    quantization: QuantizationConfig = MISSING
    engine: EngineConfig = MISSING
