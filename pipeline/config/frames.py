"""What `frames:` in params.yaml and conf/frames.yaml may hold."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.engine import EngineConfig
from pipeline.config.ranges import above, at_least, between


@dataclass
class FramesConfig:
    """How takes become frames."""

    per_second: float = MISSING
    width: int = MISSING
    jpeg_quality: int = MISSING

    def __post_init__(self) -> None:
        """Check the ranges."""
        above("frames.per_second", self.per_second, 0)
        at_least("frames.width", self.width, 16)
        between("frames.jpeg_quality", self.jpeg_quality, 1, 100)


@dataclass
class FramesStage:
    """Configuration of `python -m pipeline.frames`."""

    frames: FramesConfig = MISSING
    engine: EngineConfig = MISSING
