"""What `unknown:` in params.yaml may hold."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.ranges import between, one_of

# What `unknown.mode` may say: the head knows its labels alone, or learns what is none of them, too.
MODES = (OFF, LEARNED) = ("off", "learned")

KEEP_PERCENT = 95.0


@dataclass
class UnknownConfig:
    """What the model answers when a picture shows none of its labels.

    Attributes:
        mode: `learned` (the head has one output more, which learns from data/strangers and from takes in
            data/videos/_none; the model then says "none of them" below a threshold) or `off` (something is always
            named).
        keep_percent: Percent of the labels' own frames, each asked of a head that has not seen its take, that the
            threshold keeps; 50 to 100.
    """

    mode: str = MISSING
    keep_percent: float = MISSING

    def __post_init__(self) -> None:
        """Check the ranges."""
        one_of("unknown.mode", self.mode, MODES)
        between("unknown.keep_percent", self.keep_percent, 50, 100)
