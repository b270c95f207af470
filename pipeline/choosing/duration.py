"""Guesses how long a search will take, from the trials that were there before or, without any, from what there is."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Without earlier trials: `python -m bench.search` on two processors. An architecture is made and quantized before its
# pictures go through it, once; a head is trained on what comes out in each trial.
SECONDS_OF_A_NEW_MODEL = 30.0
SECONDS_OF_A_HEAD = 10.0


@dataclass(frozen=True)
class Past:
    """What a trial took: `model` is its backbone and scheme, the first trial of which costs more than the others."""

    model: tuple[str, str]
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """How long trials will take.

    Attributes:
        seconds: In all.
        num_new_models: Of backbone and scheme, that will be met for the first time, as far as chance goes.
        num_past: Trials that this is taken from; 0 if it is a guess.
    """

    seconds: float
    num_new_models: int
    num_past: int

    def __str__(self) -> str:
        """Tell it in words."""
        source = f"as {self.num_past} trials before took" if self.num_past else "a guess, as no trial ran here before"
        minutes = max(1, round(self.seconds / 60))
        return f"about {minutes} min ({source}; some {self.num_new_models} of them make a model anew)"


def estimated(
    num_trials: int, num_models: int, past: Sequence[Past], *, num_pictures: int, latency_ms: float, num_workers: int
) -> Estimate:
    """Guess how long trials will take.

    Args:
        num_trials: To come.
        num_models: Backbones, at each resolution, times schemes, which trials are drawn from.
        past: Earlier trials, oldest first.
        num_pictures: Frames and their copies, which go through each new model.
        latency_ms: Of one picture.
        num_workers: Pictures at a time.
    """
    first: dict[tuple[str, str], float] = {}
    again = []
    for one in past:
        if one.model in first:
            again.append(one.seconds)
        else:
            first[one.model] = one.seconds
    num_open = max(0, num_models - len(first))
    num_new = round(num_open * (1 - (1 - 1 / num_models) ** num_trials))  # balls thrown into boxes
    guess = SECONDS_OF_A_NEW_MODEL + SECONDS_OF_A_HEAD + num_pictures * latency_ms / 1000 / num_workers
    per_new = statistics.median(first.values()) if first else guess
    per_again = statistics.median(again) if again else SECONDS_OF_A_HEAD
    return Estimate(num_new * per_new + (num_trials - num_new) * per_again, num_new, len(past))
