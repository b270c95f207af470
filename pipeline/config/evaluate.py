"""What conf/evaluate.yaml may hold."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.backbone import BackboneConfig
from pipeline.config.ranges import at_least, between


@dataclass
class EvaluateConfig:
    """How a model is scored and timed."""

    num_threads: int = MISSING
    num_warmup_runs: int = MISSING
    num_latency_runs: int = MISSING
    num_calibration_bins: int = MISSING

    def __post_init__(self) -> None:
        """Check the ranges."""
        between("evaluate.num_threads", self.num_threads, 1, 64)
        at_least("evaluate.num_warmup_runs", self.num_warmup_runs, 0)
        at_least("evaluate.num_latency_runs", self.num_latency_runs, 1)
        at_least("evaluate.num_calibration_bins", self.num_calibration_bins, 1)


@dataclass
class EvaluateStage:
    """Configuration of `python -m pipeline.evaluate`."""

    scheme: str = MISSING
    resize: str = MISSING
    backbone: BackboneConfig = MISSING
    evaluate: EvaluateConfig = MISSING
