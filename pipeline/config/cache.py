"""What conf/cache.yaml may hold."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.plain import read_plain
from pipeline.config.ranges import at_least


@dataclass
class CacheConfig:
    """How large the take cache may grow, and who shares it.

    Attributes:
        max_bytes: Bytes above which the results least recently used are removed; what the running stage uses stays.
        remote: Name of a DVC remote on whose store results are kept, too, for other machines; empty for none.
    """

    max_bytes: int = MISSING
    remote: str = ""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.max_bytes != MISSING:
            at_least("max_bytes", self.max_bytes, 0)


def cache_config() -> CacheConfig:
    """Read conf/cache.yaml.

    Raises:
        ConfigurationError: If it does not hold what it should.
    """
    return read_plain("cache.yaml", CacheConfig)
