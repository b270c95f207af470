"""Times models against each other in one sitting, in turns: whatever else the machine does hits all of them alike."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import psutil

from pipeline.litert.measure import PERCENTILES, timed_runner

_LEVEL_PERCENT = 95
_NUM_RESAMPLES = 1000
_NUM_AWAKENING = 2  # runs of each turn that are not counted: the other models' weights lie in the processor's caches


@dataclass(frozen=True)
class Sitting:
    """What a sitting found.

    Attributes:
        latency_ms: Of each model, milliseconds of the forward pass alone: `p50`, `p90` and `p99`, and `low` to `high`,
            between which the median lies with 95% (percentile bootstrap over turns).
        busy_percent: Share of this machine's processor time that other programs used meanwhile, 0..100.
    """

    latency_ms: dict[str, dict[str, float]]
    busy_percent: float


def time_in_turns(
    models: Mapping[str, bytes], *, num_threads: int, num_warmup: int, num_turns: int, num_runs: int
) -> Sitting:
    """Run models in turns, all in this process.

    Args:
        models: .tflite files that take one tensor and give one, by name.
        num_threads: Threads that LiteRT may use.
        num_warmup: Runs of each model before the first turn.
        num_turns: How often it is each model's turn.
        num_runs: Runs a turn that are counted, at least 1.

    Raises:
        ModelError: If a file is no model.
    """
    runners = {name: timed_runner(content, num_threads) for name, content in models.items()}
    for run in runners.values():
        for _ in range(num_warmup):
            run()
    others = _Others()
    times_ms = {name: np.zeros((num_turns, num_runs)) for name in models}
    for turn in range(num_turns):
        for name, run in runners.items():
            for _ in range(_NUM_AWAKENING):
                run()
            times_ms[name][turn] = [run() for _ in range(num_runs)]
    return Sitting({name: _figures(times) for name, times in times_ms.items()}, others.busy_percent())


def _figures(times_ms: npt.NDArray[np.float64]) -> dict[str, float]:
    """Return percentiles of all runs, float64 [num_turns, num_runs], and the interval of the median."""
    values = dict(zip((f"p{rank}" for rank in PERCENTILES), np.percentile(times_ms, PERCENTILES), strict=True))
    turns = np.random.default_rng(0).integers(0, len(times_ms), (_NUM_RESAMPLES, len(times_ms)))
    medians = np.median(times_ms[turns].reshape(_NUM_RESAMPLES, -1), axis=1)
    rest = (100 - _LEVEL_PERCENT) / 2
    values["low"], values["high"] = np.percentile(medians, (rest, 100 - rest))
    return {name: round(float(value), 3) for name, value in values.items()}


class _Others:
    """Counts what other programs compute from now on."""

    def __init__(self) -> None:
        self._machine, self._own = psutil.cpu_times(), psutil.Process().cpu_times()

    def busy_percent(self) -> float:
        machine, own = psutil.cpu_times(), psutil.Process().cpu_times()
        total = sum(machine) - sum(self._machine)
        idle = sum(getattr(machine, name, 0) - getattr(self._machine, name, 0) for name in ("idle", "iowait"))
        ours = own.user + own.system - self._own.user - self._own.system
        return round(100 * min(max((total - idle - ours) / total, 0), 1), 1) if total > 0 else 0.0
