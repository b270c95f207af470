"""What `frames:` in params.yaml and conf/frames.yaml may hold."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.engine import EngineConfig
from pipeline.config.ranges import above, at_least, between


@dataclass
class FramesConfig:
    """How takes become frames.

    Attributes:
        per_second: Frames taken from a second of video; more than the video has means all.
        width: Pixels; wider pictures are scaled down to this, narrower ones stay.
        jpeg_quality: Quality of the stored JPEG, 1 to 100.
    """

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
