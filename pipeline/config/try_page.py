"""What conf/try.yaml may hold: which runtime the page of `viewfinder try` brings along."""

import re
from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.plain import read_plain
from pipeline.errors import ConfigurationError

_INTEGRITY = re.compile(r"sha512-[A-Za-z0-9+/]{86}==")


@dataclass
class PackageConfig:
    """A package of npm.

    Attributes:
        name: With its scope.
        version: Exactly.
        integrity: `sha512-` and the hash of its archive in base64, as in a package-lock.json.
    """

    name: str = MISSING
    version: str = MISSING
    integrity: str = MISSING

    def __post_init__(self) -> None:
        """Check the hash."""
        if not _INTEGRITY.fullmatch(self.integrity):
            raise ConfigurationError(
                found=f"integrity: {self.integrity} of {self.name}",
                expected="sha512- and 88 characters of base64",
                remedy=f"take what `npm view {self.name}@{self.version} dist.integrity` prints into conf/try.yaml",
            )


@dataclass
class TryConfig:
    """Configuration of `viewfinder try`.

    Attributes:
        registry: Address that packages are downloaded from.
        packages: LiteRT for browsers, and what it imports.
    """

    registry: str = MISSING
    packages: list[PackageConfig] = MISSING


def try_config() -> TryConfig:
    """Read conf/try.yaml.

    Raises:
        ConfigurationError: If it does not hold what it should.
    """
    return read_plain("try.yaml", TryConfig)
