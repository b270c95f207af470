"""What `engine:` in params.yaml and conf/engine/<choice>.yaml may hold.

dvc.yaml tracks neither: where a take is computed changes no result, so it re-runs nothing.
"""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.ranges import at_least, one_of

LOCAL, RAY = KINDS = ("local", "ray")


@dataclass
class EngineConfig:
    """Where takes, and folds of cross-validation, are computed, and how many at a time.

    What only a cluster needs is left out of conf/engine/local.yaml.

    Attributes:
        kind: `local` (threads of this process) or `ray` (processes of a Ray cluster).
        num_workers: Takes computed at the same time, folds on a cluster alone; 0 means as many as there are processors.
        address: Of a running Ray cluster; empty to start one on this machine.
        max_retries: Times that a take or fold is begun again after its worker process has died.
    """

    kind: str = MISSING
    num_workers: int = MISSING
    address: str = ""
    max_retries: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        one_of("engine.kind", self.kind, KINDS)
        at_least("engine.num_workers", self.num_workers, 0)
        at_least("engine.max_retries", self.max_retries, 0)
