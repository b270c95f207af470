"""What conf/sweep.yaml and conf/search.yaml may hold: what is tried to find the best architecture."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from pipeline.config.plain import read_plain
from pipeline.config.ranges import at_least
from pipeline.errors import ConfigurationError
from pipeline.files import layout

MIN_INPUT_PIXELS = 32  # backbones halve the picture five times


@dataclass
class Space:
    """Architectures and schemes to try.

    Attributes:
        backbones: Names as in params.yaml.
        input_pixels: Sides of the input picture, in pixels, to try with each backbone whose name says none; null is its
            own.
        quantization: Schemes, as in params.yaml.
    """

    backbones: list[str] = field(default_factory=list)
    input_pixels: list[int | None] = field(default_factory=list)
    quantization: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check that something is tried, and each once."""
        for name in ("backbones", "input_pixels", "quantization"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise _refusal(f"{name}: {values}", "at least one, and each once", name)
        for pixels in self.input_pixels:
            at_least("input_pixels", MIN_INPUT_PIXELS if pixels is None else pixels, MIN_INPUT_PIXELS)


@dataclass
class SweepConfig(Space):
    """What `make sweep` tries."""

    def __post_init__(self) -> None:
        """Check that the schemes can be compared."""
        super().__post_init__()
        if layout.REFERENCE_SCHEME not in self.quantization:
            expected = f"{layout.REFERENCE_SCHEME} among them: the others are compared with it"
            raise _refusal(f"quantization: {self.quantization}", expected, "quantization")


@dataclass
class SearchConfig(Space):
    """What `make search` tries.

    Attributes:
        num_trials: Trials that a study has in the end; no more than there is to try.
        seed: Of the order in which the space is tried.
    """

    num_trials: int = MISSING
    seed: int = MISSING

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        at_least("num_trials", self.num_trials, 1)
        at_least("seed", self.seed, 0)


def sweep_config() -> SweepConfig:
    """Read conf/sweep.yaml.

    Raises:
        ConfigurationError: If it does not hold what it should.
    """
    return read_plain("sweep.yaml", SweepConfig)


def search_config() -> SearchConfig:
    """Read conf/search.yaml.

    Raises:
        ConfigurationError: If it does not hold what it should.
    """
    return read_plain("search.yaml", SearchConfig)


def _refusal(found: str, expected: str, key: str) -> ConfigurationError:
    return ConfigurationError(
        found=found, expected=expected, remedy=f"correct `{key}` in conf/sweep.yaml or conf/search.yaml"
    )
