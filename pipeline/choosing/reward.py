"""Chooses among models by the reward of MnasNet, which weighs accuracy against what a model costs.

Source: Tan et al., MnasNet: Platform-Aware Neural Architecture Search for Mobile, CVPR 2019
(https://arxiv.org/abs/1807.11626), equations 2 and 3:

    reward = accuracy * (latency / target) ^ w,  w = alpha if latency <= target, else beta

Soft (the paper's default): alpha = beta = -0.07, since twice the latency was found to bring about 5% more accuracy, and
2 ^ -0.07 = 0.95. Hard: alpha = 0, beta = -1: what keeps the target costs nothing, what does not falls off steeply. The
paper weighs latency alone; the same factor for the size of the file, with the same exponents, is an extension.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config.choose import Exponents, Targets
from pipeline.config.gate import MicroLimits
from pipeline.errors import InputError, LimitError
from pipeline.metrics.candidates import MIB, SAME_LATENCY, Candidate


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        candidate: The cheapest of those that are as good as the best.
        reward: Its reward.
        best: The one with the highest reward, with that reward.
        second: The next best after the chosen one, with its reward; None if there was one candidate only.
    """

    candidate: Candidate
    reward: float
    best: tuple[Candidate, float]
    second: tuple[Candidate, float] | None


def reward(candidate: Candidate, targets: Targets, exponents: Exponents) -> float:
    """Return accuracy times a factor for each target that is set (see the module's text); without targets accuracy."""
    latency = _factor(candidate.latency_ms, targets.latency_ms, exponents)
    size = _factor(candidate.size_bytes, targets.size_bytes, exponents)
    return candidate.accuracy * latency * size


def choose(candidates: Sequence[Candidate], targets: Targets, exponents: Exponents) -> Choice:
    """Choose the cheapest of the candidates that are as good as the best: the faster one, then the smaller one.

    As good is what is within one standard error of the best one's accuracy (Breiman et al., Classification and
    Regression Trees, 1984, section 3.4.3): of many models that are equally good the luckiest looks best. Latencies
    within `SAME_LATENCY` of the fastest of these count as equal.

    Raises:
        InputError: If there is no candidate.
    """
    if not candidates:
        raise InputError(
            found="nothing to choose from", expected="results of at least one model", remedy="run `make sweep`"
        )
    rewards = {id(one): reward(one, targets, exponents) for one in candidates}
    best = max(candidates, key=lambda one: (rewards[id(one)], -one.latency_ms, -one.size_bytes))
    least = rewards[id(best)] * (1 - best.standard_error / best.accuracy if best.accuracy else 1)
    as_good = [one for one in candidates if rewards[id(one)] >= least]
    fastest_ms = min(one.latency_ms for one in as_good)

    def order(one: Candidate) -> tuple[bool, int, float, float]:
        return one.latency_ms > fastest_ms * SAME_LATENCY, one.size_bytes, -rewards[id(one)], one.latency_ms

    chosen = min(as_good, key=order)
    others = sorted((one for one in candidates if one is not chosen), key=lambda one: -rewards[id(one)])
    second = (others[0], rewards[id(others[0])]) if others else None
    return Choice(chosen, rewards[id(chosen)], (best, rewards[id(best)]), second)


def fitting(candidates: Sequence[Candidate], limits: MicroLimits, where: str) -> list[Candidate]:
    """Return the candidates that a microcontroller has room for; all if there are no limits.

    No reward weighs these costs: what does not fit does not run.

    Args:
        candidates: With the costs that there are limits on.
        limits: In `gate`.
        where: What holds the costs of all, for the message.

    Raises:
        LimitError: If there is none.
    """
    found = [one for one in candidates if limits.keep(one.micro_costs)]
    if candidates and not found:
        raise LimitError(
            found=f"none of {len(candidates)} models keeps {limits}",
            expected="one of the scheme int8 that does: no other runs on a microcontroller",
            remedy=f"{where} tells what each takes; try narrower backbones or smaller pictures (docs/pages/mcu.md has"
            " a table), or change the limit in params.yaml",
        )
    return found


def best_within(candidates: Sequence[Candidate], targets: Targets) -> Candidate | None:
    """Return the most accurate candidate that keeps all targets; None if there is none."""
    kept = [one for one in candidates if keeps(one, targets)]
    return min(kept, key=lambda one: (-one.accuracy, one.latency_ms, one.size_bytes), default=None)


def keeps(candidate: Candidate, targets: Targets) -> bool:
    """Tell whether a candidate costs no more than each target that is set."""
    return (targets.latency_ms is None or candidate.latency_ms <= targets.latency_ms) and (
        targets.size_bytes is None or candidate.size_bytes <= targets.size_bytes
    )


def sentence(choice: Choice, targets: Targets, *, accuracy_name: str = "accuracy") -> str:
    """Tell in one sentence what was chosen and why."""
    chosen = choice.candidate
    of_latency = f" (target {targets.latency_ms:g} ms)" if targets.latency_ms is not None else ""
    of_size = f" (target {targets.size_bytes / MIB:.2f} MiB)" if targets.size_bytes is not None else ""
    what = f"reward, {choice.reward:.3f}" if targets else accuracy_name
    text = (
        f"{chosen.name}: {accuracy_name} {chosen.accuracy:.3f} at {chosen.latency_ms:.1f} ms{of_latency} and "
        f"{chosen.size_bytes / MIB:.2f} MiB{of_size}"
    )
    best, highest = choice.best
    if best is chosen:
        text += f" has the highest {what}"
        if choice.second:
            text += f"; next is {choice.second[0].name} with {choice.second[1]:.3f}"
    else:
        text += (
            f" is the cheapest of those within the error of {best.name}, whose {what.partition(',')[0]} is the highest "
            f"({highest:.3f}, ± {best.standard_error:.3f})"
        )
    if not keeps(chosen, targets):
        text += "; it costs more than a target, which the reward weighs and does not forbid"
    return f"{text}."


def _factor(cost: float, target: float | None, exponents: Exponents) -> float:
    if target is None:
        return 1.0
    exponent = exponents.within_target if cost <= target else exponents.beyond_target
    return float((cost / target) ** exponent)
