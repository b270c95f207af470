"""What `python -m pipeline.quantize` takes: the choices of scheme and resize."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.quantization import QuantizationConfig


@dataclass
class QuantizeStage:
    """Configuration of `python -m pipeline.quantize`.

    Attributes:
        resize: How calibration pictures become inputs: `stretch` (what phones do), `crop` or `pad`.
        quantization: The scheme.
    """

    resize: str = MISSING
    quantization: QuantizationConfig = MISSING
