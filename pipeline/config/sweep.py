"""What conf/sweep.yaml and conf/search.yaml may hold: what is tried to find the best architecture."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from pipeline.config.plain import read_plain
from pipeline.config.ranges import above, at_least, between
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
    """What `make search` draws trials from. Ranges are pairs: from, to.

    Attributes:
        learning_rate: Of AdamW at the start, from and to; drawn evenly on a logarithmic scale.
        weight_decay: Of AdamW, from and to; drawn evenly on a logarithmic scale.
        dropout: Share of features dropped in a training step, from and to, 0 to 0.95.
        steps: Batches that the head is trained on, from and to.
        num_trials: Trials that a study has in the end.
        num_first_random: Trials before the sampler begins to learn from them.
        seed: Of the sampler.
    """

    learning_rate: tuple[float, float] = MISSING
    weight_decay: tuple[float, float] = MISSING
    dropout: tuple[float, float] = MISSING
    steps: tuple[int, int] = MISSING
    num_trials: int = MISSING
    num_first_random: int = MISSING
    seed: int = MISSING

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        for name in ("learning_rate", "weight_decay", "dropout", "steps"):
            low, high = getattr(self, name)
            if not low <= high:
                raise _refusal(f"{name}: [{low}, {high}]", "the smaller number first", name)
        above("learning_rate", self.learning_rate[0], 0)
        above("weight_decay", self.weight_decay[0], 0)
        between("dropout", self.dropout[0], 0, 0.95)
        between("dropout", self.dropout[1], 0, 0.95)
        at_least("steps", self.steps[0], 1)
        at_least("num_trials", self.num_trials, 1)
        at_least("num_first_random", self.num_first_random, 1)
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
