"""What `augment:` in params.yaml and conf/augment.yaml may hold."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.engine import EngineConfig
from pipeline.config.ranges import at_least, between


@dataclass
class AugmentConfig:
    """How train frames are varied. The first four after `copies` mean what they mean in retrain.py.

    Attributes:
        copies: Varied copies of each train frame, beside the frame itself.
        flip_left_right: Whether half of the copies are mirrored; false if left and right matter (text, traffic signs).
        random_crop: Percent of margin that a crop may cut away.
        random_scale: Percent that a picture may be enlarged by.
        random_brightness: Percent by which brightness goes up or down, 0 to 100.
        rotation_degrees: Degrees that a picture may be turned by, either way, 0 to 180.
        hue_degrees: Degrees that colours turn by around grey, either way, 0 to 180.
        random_saturation: Percent by which saturation goes up or down, 0 to 100.
        blur_pixels: Largest standard deviation of a Gaussian blur, in pixels of the stored frame.
        min_jpeg_quality: Lowest JPEG quality that a copy is stored with, 1 to max_jpeg_quality.
        max_jpeg_quality: Highest JPEG quality that a copy is stored with, up to 100.
    """

    copies: int = MISSING
    flip_left_right: bool = MISSING
    random_crop: float = MISSING
    random_scale: float = MISSING
    random_brightness: float = MISSING
    rotation_degrees: float = MISSING
    hue_degrees: float = MISSING
    random_saturation: float = MISSING
    blur_pixels: float = MISSING
    min_jpeg_quality: int = MISSING
    max_jpeg_quality: int = MISSING

    def __post_init__(self) -> None:
        """Check the ranges."""
        at_least("augment.copies", self.copies, 0)
        at_least("augment.random_crop", self.random_crop, 0)
        at_least("augment.random_scale", self.random_scale, 0)
        between("augment.random_brightness", self.random_brightness, 0, 100)
        between("augment.rotation_degrees", self.rotation_degrees, 0, 180)
        between("augment.hue_degrees", self.hue_degrees, 0, 180)
        between("augment.random_saturation", self.random_saturation, 0, 100)
        at_least("augment.blur_pixels", self.blur_pixels, 0)
        between("augment.max_jpeg_quality", self.max_jpeg_quality, 1, 100)
        between("augment.min_jpeg_quality", self.min_jpeg_quality, 1, self.max_jpeg_quality)


@dataclass
class AugmentStage:
    """Configuration of `python -m pipeline.augment`."""

    augment: AugmentConfig = MISSING
    engine: EngineConfig = MISSING
