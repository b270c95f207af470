"""What conf/inspect.yaml may hold."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.engine import EngineConfig
from pipeline.config.ranges import at_least, between


@dataclass
class InspectConfig:
    """From when on something is worth a look.

    Attributes:
        min_margin: Of probability by which another label must be likelier for a frame to look mislabelled, 0..1.
        max_hash_distance: Of 64 bits of the perceptual hash, in which copies may differ.
        min_likeness_of_equal_hashes: Cosine of the centred features of two frames whose hashes are near enough.
        min_likeness: The same for frames that are copies whatever their hashes say.
        min_copied_percent: Of a take's frames that have a copy in another take.
        max_compared_frames: Frames that are compared with each other, at most; of more, every second, third, ... of
            each take, and one of each take at least.
        min_brightness: Mean grey, 0..255, below which nothing is seen; as much below 255 above which nothing is.
        min_sharpness: Variance of the Laplacian at 256 pixels' width below which a frame is blurred beyond use.
        min_motion: Mean grey levels by which a frame must differ from the one before.
        max_odd_accuracy: Share of a take that is recognized, at most, to call it odd, 0..1.
        min_border_percent: Of the heat that lies in the outermost cells, to say that a take is judged by its border.
        num_thumbnails: Frames on a picture, at most.
    """

    min_margin: float = MISSING
    max_hash_distance: int = MISSING
    min_likeness_of_equal_hashes: float = MISSING
    min_likeness: float = MISSING
    min_copied_percent: float = MISSING
    max_compared_frames: int = MISSING
    min_brightness: float = MISSING
    min_sharpness: float = MISSING
    min_motion: float = MISSING
    max_odd_accuracy: float = MISSING
    min_border_percent: float = MISSING
    num_thumbnails: int = MISSING

    def __post_init__(self) -> None:
        """Check the ranges."""
        between("inspect.min_margin", self.min_margin, 0, 1)
        between("inspect.max_hash_distance", self.max_hash_distance, 0, 64)
        between("inspect.min_likeness_of_equal_hashes", self.min_likeness_of_equal_hashes, -1, 1)
        between("inspect.min_likeness", self.min_likeness, -1, 1.01)
        between("inspect.min_copied_percent", self.min_copied_percent, 0, 100)
        at_least("inspect.max_compared_frames", self.max_compared_frames, 2)
        between("inspect.min_brightness", self.min_brightness, 0, 127)
        at_least("inspect.min_sharpness", self.min_sharpness, 0)
        at_least("inspect.min_motion", self.min_motion, 0)
        between("inspect.max_odd_accuracy", self.max_odd_accuracy, 0, 1)
        between("inspect.min_border_percent", self.min_border_percent, 0, 100)
        between("inspect.num_thumbnails", self.num_thumbnails, 1, 300)


@dataclass
class InspectStage:
    """Configuration of `python -m pipeline.inspect`."""

    resize: str = MISSING
    inspect: InspectConfig = MISSING
    engine: EngineConfig = MISSING
