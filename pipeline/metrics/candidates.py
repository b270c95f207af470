"""A model with what it gives and what it costs, and which of several no other beats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.config.gate import MICRO_COSTS

# Medians of the same model, measured again, differ by this factor; what lies closer is not called faster.
SAME_LATENCY = 1.05

MIB = 2**20


@dataclass(frozen=True)
class Candidate:
    """One model.

    Attributes:
        name: What people know it by, such as "efficientnet_lite0 int8".
        accuracy: Share of frames that are right, 0..1.
        latency_ms: Median time of one picture in LiteRT on this machine.
        size_bytes: Of model.tflite.
        settings: Keys and values of params.yaml that make it; a key may name a file of conf/ before a colon.
        standard_error: Of the accuracy, over takes; 0 where it is not known.
        micro_costs: What it takes on a microcontroller (see `pipeline.litert.micro_costs`); empty if nobody asked.
    """

    name: str
    accuracy: float
    latency_ms: float
    size_bytes: int
    settings: Mapping[str, object] = field(default_factory=dict)
    standard_error: float = 0.0
    micro_costs: Mapping[str, float] = field(default_factory=dict)


def candidate_of(metrics: Mapping[str, Any]) -> Candidate:
    """Return the scheme that a file of metrics/ is about."""
    return Candidate(
        metrics["scheme"],
        metrics["accuracy"],
        metrics["latency_ms"]["p50"],
        metrics["size_bytes"],
        {"deploy": metrics["scheme"]},
        metrics["standard_error"],
        {cost: metrics[cost] for cost in MICRO_COSTS if cost in metrics},
    )


def as_edit(settings: Mapping[str, object]) -> str:
    """Return settings as what to write where: "`deploy: int8` in params.yaml"."""
    files: dict[str, list[str]] = {}
    for key, value in settings.items():
        file, _, name = key.rpartition(":")
        files.setdefault(file or "params.yaml", []).append(f"`{name}: {value}`")
    return "; ".join(f"{' and '.join(lines)} in {file}" for file, lines in files.items())


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the Pareto front: those that no other beats, in their order.

    One beats another if it is at least as good in accuracy, latency and size, and better in one of them. Latencies
    within `SAME_LATENCY` count as equal, so that noise puts nothing on the front; accuracy and size are exact.
    """
    return [one for one in candidates if not any(_beats(other, one) for other in candidates)]


def _beats(one: Candidate, other: Candidate) -> bool:
    is_as_good = (
        one.accuracy >= other.accuracy
        and one.latency_ms <= other.latency_ms * SAME_LATENCY
        and one.size_bytes <= other.size_bytes
    )
    is_better = (
        one.accuracy > other.accuracy
        or one.latency_ms * SAME_LATENCY < other.latency_ms
        or one.size_bytes < other.size_bytes
    )
    return is_as_good and is_better


def short_names(names: Sequence[str]) -> list[str]:
    """Leave out what all names begin with, up to an underscore: `lite0 int8` for `efficientnet_lite0 int8`.

    A picture has little room. One name alone stays as it is.
    """
    words = [name.split(" ")[0].split("_") for name in names]
    num_common = 0
    while len(set(names)) > 1 and len({tuple(word[: num_common + 1]) for word in words}) == 1:
        if min(map(len, words)) <= num_common + 1:
            break
        num_common += 1
    prefix = len("".join(f"{word}_" for word in words[0][:num_common])) if words else 0
    return [name[prefix:] for name in names]
