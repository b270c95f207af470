"""Measures models so that they can be compared: in one sitting, in turns.

The latency in metrics/ was measured when the model was made: at another time, under another load, or on the machine of
whoever made it, since results come from DVC's cache. A choice between models must not depend on that.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.config.measure import measure_config
from pipeline.files import write_bytes, write_text
from pipeline.litert.measure import measure
from pipeline.processes.progress import counted

NUM_ROUNDS = 3  # of which the fastest median counts: what else a machine does can only slow a model down


def latencies_ms(models: Mapping[str, Callable[[], bytes]], kept: Path) -> dict[str, float]:
    """Return the median latency of each model, all from the same sitting.

    Args:
        models: What gives a .tflite file, by a name that stands for its content.
        kept: A JSON file with the last sitting. If it has all models, nothing is measured; else all are, anew.

    Raises:
        PipelineError: If a model cannot be run.
    """
    last = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    if not set(models) <= set(last):
        last = measure_in_turns({name: read() for name, read in models.items()})
        write_text(kept, json.dumps(last, indent=2) + "\n")
    return {name: last[name] for name in models}


def measure_in_turns(models: Mapping[str, bytes], num_rounds: int = NUM_ROUNDS) -> dict[str, float]:
    """Measure each model once a round, with the threads and runs of conf/measure.yaml, each in a fresh process.

    (The stage `measure` has few models and times them within one process; here may be dozens, too many for memory.)

    Returns:
        By name, the lowest of the rounds' medians in milliseconds.
    """
    config = measure_config()
    numbers = {
        "num_threads": config.num_threads,
        "num_warmup": config.num_warmup_runs,
        "num_runs": config.num_turns * config.num_runs_a_turn,
    }
    found = dict.fromkeys(models, float("inf"))
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{number}.tflite" for number, name in enumerate(models)}
        for name, path in paths.items():
            write_bytes(path, models[name])
        turns = [(name, path) for _ in range(num_rounds) for name, path in paths.items()]
        for name, path in counted(turns, "latency", total=len(turns), unit="run", leave=False):
            found[name] = min(found[name], measure(path, **numbers).latency_ms["p50"])
    return found
