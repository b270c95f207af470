"""What `training:` in params.yaml and conf/train.yaml may hold."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.ranges import above, at_least, between, one_of
from pipeline.config.unknown import UnknownConfig

# What `training.mode` may say: the head alone is trained, or the backbone before it, too.
MODES = (HEAD, FINETUNE) = ("head", "finetune")

# What `training.final` may say: which takes the shipped head is trained on.
FINALS = (ALL_TAKES, TRAIN_TAKES) = ("all", "train")

# What `training.optimizer` may say: to convergence, or for a number of steps.
OPTIMIZERS = (LBFGS, ADAMW) = ("lbfgs", "adamw")

_MAX_SEED = 2**32 - 1  # what NumPy and TensorFlow take


@dataclass
class TrainingConfig:
    """How the head is trained. Names and meanings follow the flags of retrain.py where it has them.

    Attributes:
        mode: What is trained: `head` (the head alone; the backbone stays as it is) or `finetune` (the backbone's last
            blocks, too).
        final: Which takes the shipped head is trained on: `all` (cross-validation has given the score, each take held
            out once), or `train` (test takes are left out, and the shipped file itself is scored on them). With
            `mode: finetune` it is always `train`: what the backbone has learned from cannot be held out any more.
        optimizer: `lbfgs` (logistic regression on standardized features, to convergence) or `adamw` (so many steps of
            so many frames, as retrain.py does, with dropout).
        regularization: Weight of |weights|^2 / 2 beside the mean loss, for `lbfgs`; null is chosen by cross-validation
            over takes.
        class_balance: Whether frames are weighed so that every label counts the same.
        seed: Of initial weights, order of frames and dropout; `lbfgs` draws nothing.
        steps: Batches that `adamw` trains on.
        learning_rate: Of AdamW at the start; falls to 0 along a cosine.
        train_batch_size: Frames a step of AdamW.
        eval_step_interval: Steps of AdamW between two points of its curves.
        dropout: Share of features dropped in a step of AdamW, 0 to 0.95.
        weight_decay: Decoupled weight decay, of AdamW.
    """

    mode: str = MISSING
    final: str = MISSING
    optimizer: str = MISSING
    regularization: float | None = MISSING
    class_balance: bool = MISSING
    seed: int = MISSING
    steps: int = MISSING
    learning_rate: float = MISSING
    train_batch_size: int = MISSING
    eval_step_interval: int = MISSING
    dropout: float = MISSING
    weight_decay: float = MISSING

    def __post_init__(self) -> None:
        """Check the ranges."""
        one_of("training.mode", self.mode, MODES)
        one_of("training.final", self.final, FINALS)
        one_of("training.optimizer", self.optimizer, OPTIMIZERS)
        if self.regularization is not None:
            above("training.regularization", self.regularization, 0)
        at_least("training.steps", self.steps, 1)
        above("training.learning_rate", self.learning_rate, 0)
        at_least("training.train_batch_size", self.train_batch_size, 1)
        at_least("training.eval_step_interval", self.eval_step_interval, 1)
        between("training.dropout", self.dropout, 0, 0.95)
        at_least("training.weight_decay", self.weight_decay, 0)
        between("training.seed", self.seed, 0, _MAX_SEED)


@dataclass
class TrainStage:
    """Configuration of `python -m pipeline.train`."""

    scheme: str = MISSING
    training: TrainingConfig = MISSING
    unknown: UnknownConfig = MISSING
