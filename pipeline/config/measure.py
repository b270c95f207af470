"""What conf/measure.yaml may hold."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.plain import CONF_FOLDER, load
from pipeline.config.ranges import at_least, between


@dataclass
class MeasureConfig:
    """How models are timed.

    Attributes:
        num_threads: Threads that LiteRT may use.
        num_warmup_runs: Runs of a model before the clock starts.
        num_turns: How often it is each model's turn.
        num_runs_a_turn: Runs of a model each time it is its turn, that are counted.
    """

    num_threads: int = MISSING
    num_warmup_runs: int = MISSING
    num_turns: int = MISSING
    num_runs_a_turn: int = MISSING

    def __post_init__(self) -> None:
        """Check the ranges."""
        between("measure.num_threads", self.num_threads, 1, 64)
        at_least("measure.num_warmup_runs", self.num_warmup_runs, 0)
        at_least("measure.num_turns", self.num_turns, 1)
        at_least("measure.num_runs_a_turn", self.num_runs_a_turn, 1)


@dataclass
class MeasureStage:
    """Configuration of `python -m pipeline.measure`.

    Attributes:
        quantization: The schemes whose models are measured.
        measure: How.
    """

    quantization: list[str] = MISSING
    measure: MeasureConfig = MISSING


def measure_config(**given: int) -> MeasureConfig:
    """Read conf/measure.yaml for a tool, which may be given other values.

    Raises:
        ConfigurationError: If a value is out of its range.
    """
    section = load(CONF_FOLDER / "measure.yaml")["measure"]
    return MeasureConfig(**((section if isinstance(section, dict) else {}) | given))
