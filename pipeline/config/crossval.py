"""What `crossval:` in params.yaml and conf/crossval.yaml may hold."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.engine import EngineConfig
from pipeline.config.ranges import at_least, between
from pipeline.config.train import TrainingConfig
from pipeline.config.unknown import UnknownConfig


@dataclass
class CrossvalConfig:
    """How heads are cross-validated.

    Attributes:
        num_folds: Folds by take, at most; 2 to 20.
        learning_percents: Shares of the takes that the learning curve trains on, beside all of them; 1 to 99.
        num_calibration_bins: Bins of the expected calibration error.
    """

    num_folds: int = MISSING
    learning_percents: list[int] = MISSING
    num_calibration_bins: int = MISSING

    def __post_init__(self) -> None:
        """Check the ranges."""
        between("crossval.num_folds", self.num_folds, 2, 20)
        for percent in self.learning_percents:
            between("crossval.learning_percents", percent, 1, 99)
        at_least("crossval.num_calibration_bins", self.num_calibration_bins, 1)


@dataclass
class CrossvalStage:
    """Configuration of `python -m pipeline.crossval`."""

    scheme: str = MISSING
    training: TrainingConfig = MISSING
    unknown: UnknownConfig = MISSING
    crossval: CrossvalConfig = MISSING
    engine: EngineConfig = MISSING
