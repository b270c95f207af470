"""What `finetune:` in params.yaml and conf/finetune.yaml may hold."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.backbone import BackboneConfig
from pipeline.config.engine import EngineConfig
from pipeline.config.ranges import above, at_least, between
from pipeline.config.train import TrainingConfig
from pipeline.errors import ConfigurationError

WHOLE_BACKBONE = -1


@dataclass
class FinetuneConfig:
    """How the backbone is fine-tuned. Dropout, weight decay, class balance and seed are those of `training`.

    Attributes:
        blocks: How many of the backbone's last blocks learn; -1 for all of it.
        epochs: Passes over the train frames and their copies, at most.
        learning_rate: Of AdamW at the start; falls to 0 along a cosine.
        train_batch_size: Frames a step.
        freeze_batch_norm: Whether batch normalizations keep their statistics, scales and shifts.
        patience: Epochs without a smaller validation loss after which training stops.
        pruning_percent: Percent of the weights of the tuned convolutions that end up as zeros, 0 to 95; 0 means none.
        pruning_end_percent: Percent of all steps after which that many are zeros; in the others the rest recovers.
        pruning_interval_steps: Steps between two choices of the weights that are zeros.
    """

    blocks: int = MISSING
    epochs: int = MISSING
    learning_rate: float = MISSING
    train_batch_size: int = MISSING
    freeze_batch_norm: bool = MISSING
    patience: int = MISSING
    pruning_percent: float = MISSING
    pruning_end_percent: float = MISSING
    pruning_interval_steps: int = MISSING

    def __post_init__(self) -> None:
        """Check the ranges."""
        at_least("finetune.epochs", self.epochs, 1)
        above("finetune.learning_rate", self.learning_rate, 0)
        at_least("finetune.train_batch_size", self.train_batch_size, 1)
        at_least("finetune.patience", self.patience, 1)
        between("finetune.pruning_percent", self.pruning_percent, 0, 95)
        between("finetune.pruning_end_percent", self.pruning_end_percent, 0, 100)
        at_least("finetune.pruning_interval_steps", self.pruning_interval_steps, 1)
        if self.blocks < 1 and self.blocks != WHOLE_BACKBONE:
            raise ConfigurationError(
                found=f"finetune.blocks: {self.blocks}",
                expected=f"a number of at least 1, or {WHOLE_BACKBONE} (the whole backbone)",
                remedy="correct `finetune.blocks` in params.yaml",
            )


@dataclass
class FinetuneStage:
    """Configuration of `python -m pipeline.finetune`."""

    resize: str = MISSING
    backbone: BackboneConfig = MISSING
    training: TrainingConfig = MISSING
    finetune: FinetuneConfig = MISSING
    engine: EngineConfig = MISSING
