"""Stage `gate`: lets a model pass only if it keeps the limits in params.yaml.

Reads metrics/schemes/<scheme>.json of the scheme to deploy and, to tell which others would pass, of those listed beside
it; writes build/gate.json, the limits that the model keeps. If there is a limit on what it takes on a microcontroller,
it reads the model, too (DVC sees another model by its metrics, which are about that very file).
It is a stage of its own because DVC removes what a stage writes before it runs its command: were `deploy` to refuse,
the model deployed before would be gone. `deploy` needs gate.json, so a refusal here leaves models/deployed/ as it is.
"""

import json
import math
import sys
from dataclasses import dataclass
from typing import Any

from pipeline.config.application import run_stage
from pipeline.config.gate import INTERVAL, MICRO_COSTS, GateConfig, GateStage, MicroLimits
from pipeline.errors import InputError, LimitError
from pipeline.files import layout, write_text

# Limits that every head must keep by itself; the others are about the file.
_OF_HEADS = ("min_accuracy", "min_take_accuracy", "min_recall", "max_accuracy_drop", "min_agreement_with_float32")


@dataclass(frozen=True)
class Breach:
    """A limit that a model breaks.

    Attributes:
        name: As in params.yaml, min_... or max_...
        limit: The limit.
        value: What the model has.
        head: Which further head breaks it; empty for the first head, or the model as a whole.
    """

    name: str
    limit: float
    value: float
    head: str = ""

    def __str__(self) -> str:
        """Return the limit, the value and the difference."""
        if math.isinf(self.value):
            return f"{self.name}: {_number(self.limit)}; this scheme runs on no microcontroller, int8 alone does"
        amount = abs(self.value - self.limit)
        relative = f" ({amount / self.limit:.0%})" if self.limit >= 1 else ""  # a percentage of a share would confuse
        direction = "too little" if self.name.startswith("min_") else "too much"
        limit, value, difference = map(_number, (self.limit, self.value, amount))
        name = f"{self.name}, head {self.head}" if self.head else self.name
        return f"{name}: {limit}; it has {value}, {difference}{relative} {direction}"


def gate(config: GateStage) -> None:
    """Write which limits the model to deploy keeps.

    Raises:
        LimitError: If it breaks one.
        MissingPackageError: If there is a limit on a microcontroller's arena, and TFLM is not installed.
    """
    breaches = breaches_of(figures_of(config.deploy, config.gate.micro), config.gate)
    if breaches:
        raise refusal(config.deploy, breaches, passing_schemes(config))
    content = {"scheme": config.deploy, "limits": config.gate.limits()}
    write_text(layout.GATE, json.dumps(content, indent=2) + "\n")
    sys.stderr.write(f"gate: {config.deploy} keeps all limits ({len(config.gate.limits())} set)\n")


def figures_of(scheme: str, limits: MicroLimits) -> dict[str, Any]:
    """Read the metrics of a scheme, and measure what limits on a microcontroller ask for."""
    metrics: dict[str, Any] = json.loads(layout.metrics(scheme).read_text(encoding="utf-8"))
    return metrics | micro_figures(scheme, limits)


def micro_figures(scheme: str, limits: MicroLimits) -> dict[str, int]:
    """Return what a scheme's model takes on a microcontroller, as far as there are limits (see `micro_costs`).

    Raises:
        InputError: If the model is not there.
        MissingPackageError: If there is a limit on the arena, and TFLM is not installed.
    """
    if not limits:
        return {}
    from pipeline.litert.micro_costs import micro_costs  # noqa: PLC0415 - a run without such limits does not wait

    path = layout.model(scheme)
    if not path.is_file():
        raise InputError(
            found=f"no {path}, of which {limits} is asked",
            expected="the model that the metrics are about",
            remedy="run `dvc repro`; if that finds nothing to do: dvc checkout",
        )
    return micro_costs(path.read_bytes(), scheme, limits)


def breaches_of(metrics: dict[str, Any], config: GateConfig) -> list[Breach]:
    """Return the limits that a model breaks; a value that is no number breaks every limit.

    Limits on what the first head says hold for every further head, too.

    Args:
        metrics: Of one scheme, as `figures_of` gives them.
        config: The limits.
    """
    found = _breaches(metrics, config.limits(), config.judge_by)
    of_heads = {name: limit for name, limit in config.limits().items() if name in _OF_HEADS}
    for head, figures in metrics.get("heads", {}).items():
        broken = _breaches(figures, of_heads, config.judge_by)
        found += [Breach(breach.name, breach.limit, breach.value, head) for breach in broken]
    return found


def _breaches(figures: dict[str, Any], limits: dict[str, float], judge_by: str) -> list[Breach]:
    values = {name: _value(figures, name, judge_by) for name in limits}
    return [
        Breach(name, limit, values[name])
        for name, limit in limits.items()
        if not (values[name] >= limit if name.startswith("min_") else values[name] <= limit)
    ]


def passing_schemes(config: GateStage) -> dict[str, bool]:
    """Tell for each scheme in `quantization` whether it would pass; one that is not scored is left out."""
    found = {scheme: layout.metrics(scheme) for scheme in config.quantization}
    return {
        scheme: not breaches_of(figures_of(scheme, config.gate.micro), config.gate)
        for scheme, path in found.items()
        if path.is_file()
    }


def refusal(scheme: str, breaches: list[Breach], passing: dict[str, bool]) -> LimitError:
    """Return the error that names each broken limit and the schemes that would pass."""
    would_pass = [other for other, passes in passing.items() if passes]
    others = f"of {', '.join(passing)} this holds for {', '.join(would_pass) or 'none'}"
    choice = f"set `deploy: {would_pass[0]}`" if would_pass else "make the model better (more takes, another backbone)"
    return LimitError(
        found=f"{scheme} breaks {len(breaches)} of the limits in `gate`:\n"
        + "\n".join(f"  - {breach}" for breach in breaches),
        expected=f"a model that keeps every limit; {others}",
        remedy=f"{choice}, or change the limit in params.yaml; {layout.PICTURES}/ shows what went wrong. "
        f"{layout.DEPLOYED}/ stays as it was",
    )


def _value(metrics: dict[str, Any], limit: str, judge_by: str) -> float:
    """Return what a limit is about, or the worse end of its interval if it has one and that is asked for."""
    ends = _worse_ends(metrics["intervals"]) if judge_by == INTERVAL else {}
    if limit in ends:
        return ends[limit]
    if limit == "max_latency_ms_p50":
        return float(metrics["latency_ms"]["high" if judge_by == INTERVAL else "p50"])
    name = {"min_recall": "worst_recall"}.get(limit, limit.removeprefix("min_").removeprefix("max_"))
    if name in MICRO_COSTS:
        return float(metrics.get(name, math.inf))
    return float(metrics[name])


def _worse_ends(intervals: dict[str, Any]) -> dict[str, float]:
    """Return the worse end of each interval by the limit that it is about; one take only has none."""
    if not intervals:
        return {}
    drop = {"max_accuracy_drop": intervals["accuracy_drop"]["high"]} if "accuracy_drop" in intervals else {}
    return {
        "min_accuracy": intervals["accuracy"]["low"],
        "min_take_accuracy": intervals["take_accuracy"]["low"],
        "min_recall": min(interval["low"] for interval in intervals["recall"].values()),
    } | drop


def _number(value: float) -> str:
    """Write 3967444 as 3,967,444 and a fraction with four digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def main() -> None:
    """Run the stage from the command line."""
    run_stage("gate", GateStage, gate)


if __name__ == "__main__":
    main()
