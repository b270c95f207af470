"""Stage `measure`: times all schemes' models in one sitting, in turns, and gathers what is known of each.

Reads build/evaluation/<scheme>.json of the schemes in `quantization` and the models that these are about; writes
metrics/schemes/, a file a scheme. A stage for each scheme would measure it at another moment, under another load, or
bring back what another machine once measured: a gate and a choice compare them. So all are timed anew whenever one
changes.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pipeline.config.application import run_stage
from pipeline.config.measure import MeasureConfig, MeasureStage
from pipeline.errors import InputError
from pipeline.files import layout, sha256_of_bytes, write_text
from pipeline.litert.measure import measure as measure_alone
from pipeline.litert.turns import time_in_turns
from pipeline.takes.staging import staged

_SHA256 = "model_sha256"  # in what `evaluate` writes: so DVC knows that the models are read here


def measure(config: MeasureStage) -> None:
    """Write the metrics of all schemes, all or none."""
    found = {scheme: _evaluation(scheme) for scheme in config.quantization}
    models = {scheme: layout.model(scheme).read_bytes() for scheme in config.quantization}
    for scheme, content in models.items():
        _refuse_another(scheme, content, found[scheme].pop(_SHA256))
    numbers = {"num_threads": config.measure.num_threads, "num_warmup": config.measure.num_warmup_runs}
    sitting = time_in_turns(
        models, **numbers, num_turns=config.measure.num_turns, num_runs=config.measure.num_runs_a_turn
    )
    with staged(layout.SCHEMES_METRICS) as staging:
        for scheme, evaluation in found.items():
            costs = {
                "latency_ms": sitting.latency_ms[scheme],
                "busy_percent": sitting.busy_percent,
                "num_threads": config.measure.num_threads,
                "peak_memory_bytes": _peak_memory_bytes(layout.model(scheme), config.measure),
            }
            write_text(staging / f"{scheme}.json", json.dumps(evaluation | costs, indent=2, ensure_ascii=False) + "\n")
    medians = ", ".join(f"{scheme} {figures['p50']:.1f} ms" for scheme, figures in sitting.latency_ms.items())
    sys.stderr.write(
        f"measure: {medians}; other programs used {sitting.busy_percent:.0f}% of the processors meanwhile\n"
    )


def _evaluation(scheme: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(layout.evaluation(scheme).read_text(encoding="utf-8"))
    return found


def _refuse_another(scheme: str, content: bytes, sha256: str) -> None:
    if sha256_of_bytes(content) != sha256:
        raise InputError(
            found=f"{layout.model(scheme)} is not the model that {layout.evaluation(scheme)} is about",
            expected="both of one run",
            remedy="run `dvc repro`; if that finds nothing to do: dvc checkout",
        )


def _peak_memory_bytes(path: Path, config: MeasureConfig) -> int:
    """Measure the memory of a model alone, in a process of its own."""
    return measure_alone(path, num_threads=config.num_threads, num_warmup=0, num_runs=1).peak_memory_bytes


def main() -> None:
    """Run the stage from the command line."""
    run_stage("measure", MeasureStage, measure)


if __name__ == "__main__":
    main()
