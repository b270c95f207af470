"""What `python -m pipeline.multihead` takes."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.crossval import CrossvalConfig
from pipeline.config.engine import EngineConfig
from pipeline.config.heads import check_heads
from pipeline.config.train import TrainingConfig
from pipeline.config.unknown import UnknownConfig


@dataclass
class MultiheadStage:
    """Configuration of `python -m pipeline.multihead`.

    Attributes:
        scheme: On whose bottlenecks the heads are trained.
        heads: The further heads by name, each `one` or `many`.
        training: How they are trained, as the first head is.
        unknown: What they answer when a picture shows none of their labels.
        crossval: How they are cross-validated.
        engine: Where that is done.
    """

    scheme: str = MISSING
    heads: dict[str, str] = MISSING
    training: TrainingConfig = MISSING
    unknown: UnknownConfig = MISSING
    crossval: CrossvalConfig = MISSING
    engine: EngineConfig = MISSING

    def __post_init__(self) -> None:
        """Check names and kinds."""
        check_heads(self.heads)
