"""What `training:` in params.yaml and conf/train.yaml may hold."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.ranges import above, at_least, between, one_of
from pipeline.errors import ConfigurationError

# What `training.mode` may say: the head alone is trained, or the backbone before it, too.
MODES = (HEAD, FINETUNE) = ("head", "finetune")


_MAX_SEED = 2**32 - 1  # what NumPy and TensorFlow take


@dataclass
class TrainingConfig:
    """How the head is trained. Names and meanings follow the flags of retrain.py where it has them.

    Attributes:
        mode: What is trained: `head` (the head alone; the backbone stays as it is) or `finetune` (the backbone's last
            blocks, too).
        steps: Batches that the head is trained on.
        learning_rate: Of AdamW at the start; falls to 0 along a cosine.
        train_batch_size: Frames a step.
        validation_batch_size: Frames a validation batch; -1 means all at once.
        eval_step_interval: Steps between two looks at the validation frames.
        dropout: Share of features dropped in a training step, 0 to 0.95.
        weight_decay: Decoupled weight decay, of AdamW.
        class_balance: Whether frames are weighed so that every label counts the same.
        seed: Of initial weights, order of frames and dropout.
    """

    mode: str = MISSING
    steps: int = MISSING
    learning_rate: float = MISSING
    train_batch_size: int = MISSING
    validation_batch_size: int = MISSING
    eval_step_interval: int = MISSING
    dropout: float = MISSING
    weight_decay: float = MISSING
    class_balance: bool = MISSING
    seed: int = MISSING

    def __post_init__(self) -> None:
        """Check the ranges."""
        one_of("training.mode", self.mode, MODES)
        at_least("training.steps", self.steps, 1)
        above("training.learning_rate", self.learning_rate, 0)
        at_least("training.train_batch_size", self.train_batch_size, 1)
        at_least("training.eval_step_interval", self.eval_step_interval, 1)
        between("training.dropout", self.dropout, 0, 0.95)
        at_least("training.weight_decay", self.weight_decay, 0)
        between("training.seed", self.seed, 0, _MAX_SEED)
        if self.validation_batch_size < 1 and self.validation_batch_size != -1:
            raise ConfigurationError(
                found=f"training.validation_batch_size: {self.validation_batch_size}",
                expected="-1 (all validation frames at once) or a number of at least 1",
                remedy="correct `training.validation_batch_size` in params.yaml",
            )


@dataclass
class TrainStage:
    """Configuration of `python -m pipeline.train`."""

    scheme: str = MISSING
    training: TrainingConfig = MISSING
