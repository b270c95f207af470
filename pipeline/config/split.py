"""What `split:` in params.yaml may hold."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from pipeline.config.ranges import at_least, between
from pipeline.errors import ConfigurationError


@dataclass
class SplitConfig:
    """How many of 100 takes go to each part; the rest is for training.

    Attributes:
        test_percent: Percent of a label's takes that are scored from pixels to label; at least one take, 1 to 90.
        validation_percent: Percent of a label's takes that choose the epoch with `mode: finetune`; at least one take, 1
            to 90.
        test: Takes that are for testing, as label/take; of labels that none is named of, `test_percent` are.
        block_gap_percent: Percent of a take left out between two time blocks, so that neighbouring frames never face
            each other; for labels with one or two takes.
    """

    validation_percent: float = MISSING
    test_percent: float = MISSING
    block_gap_percent: float = MISSING
    test: list[str] = MISSING

    def __post_init__(self) -> None:
        """Check the ranges."""
        between("split.validation_percent", self.validation_percent, 1, 90)
        between("split.test_percent", self.test_percent, 1, 90)
        at_least("split.block_gap_percent", self.block_gap_percent, 0)
        taken = self.validation_percent + self.test_percent + 2 * self.block_gap_percent
        if taken > 95:
            raise ConfigurationError(
                found=f"split.validation_percent: {self.validation_percent:g}, "
                f"split.test_percent: {self.test_percent:g}, "
                f"split.block_gap_percent: {self.block_gap_percent:g} (twice)",
                expected="at most 95 together, so that something is left to train on",
                remedy="lower split.validation_percent or split.test_percent in params.yaml",
            )


@dataclass
class SplitStage:
    """Configuration of `python -m pipeline.split`.

    Attributes:
        split: How takes are split.
        heads: The further heads, for which data/labels.csv is read and checked here, as early as takes are known.
    """

    split: SplitConfig = MISSING
    heads: dict[str, str] = field(default_factory=dict)
