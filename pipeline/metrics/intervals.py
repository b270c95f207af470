"""Between what figures lie: the frames of a take stand or fall together, so takes are drawn again, not frames.

A percentile bootstrap over takes (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13): as many
takes as there are are drawn with all their frames, again and again; 95% of what comes out lies in the interval. Frames
of one take are near-copies; drawn one by one they would promise more than they tell.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.metrics.classification import Predictions, losses_of, vote_is_right

NUM_RESAMPLES = 2000
LEVEL_PERCENT = 95

_SEED = 0
_MAX_DRAWN_AT_ONCE = 20_000_000  # counts; so that ten thousand takes do not fill the memory

Interval = dict[str, float]  # low and high
RightAnswers = Mapping[str, Sequence[int]]  # of each take how many are right, and how many there are
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Sums:
    """What figures are made of, a row a take: frames and right ones, losses, votes, and by label what F1 needs."""

    scalars: Floats  # [num_takes, 4]: frames, right frames, sum of losses, right votes
    of_labels: Floats  # [num_takes, 3 * num_labels]: frames that show it, that are called it, that are both

    @classmethod
    def of(cls, predictions: Predictions) -> "_Sums":
        takes, codes = np.unique(np.array(predictions.takes, str), return_inverse=True)
        num_labels = len(predictions.labels)
        is_right = predictions.actual == predictions.predicted
        votes = [vote_is_right(predictions, codes == take) for take in range(len(takes))]
        counts = [np.bincount(codes), np.bincount(codes, is_right), np.bincount(codes, losses_of(predictions)), votes]
        shape = len(takes), num_labels
        shown = _table(codes, predictions.actual, shape)
        called = _table(codes, predictions.predicted, shape)
        both = _table(codes[is_right], predictions.actual[is_right], shape)
        return cls(np.array(counts, np.float64).T, np.hstack([shown, called, both]))


def _table(takes: npt.NDArray[np.intp], labels: npt.NDArray[np.int64], shape: tuple[int, int]) -> Floats:
    """Count the frames of each take and label."""
    counts = np.bincount(takes * shape[1] + labels, minlength=shape[0] * shape[1])
    return counts.reshape(shape).astype(np.float64)


@dataclass(frozen=True)
class Intervals:
    """Between what the figures of `classification.score` lie, and the standard error of the first."""

    accuracy: Interval
    take_accuracy: Interval
    macro_f1: Interval
    log_loss: Interval
    recall: dict[str, Interval]


def intervals_of(predictions: Predictions) -> Intervals | None:
    """Return between what the figures of `classification.score` lie, were other takes filmed.

    A figure that every take agrees on would get an interval without width. It gets the exact one for so many trials
    that all went the same way (Clopper and Pearson, Biometrika 26, 1934): three takes that are all right promise no
    more than 0.29.

    Returns:
        Each with low and high, recall by label; None if there is one take only.
    """
    sums = _Sums.of(predictions)
    num_takes, num_labels = len(sums.scalars), len(predictions.labels)
    if num_takes < 2:
        return None
    drawn = _drawn(np.hstack([sums.scalars, sums.of_labels]))
    frames, right, loss, votes = drawn[:, :4].T
    shown, called, both = np.moveaxis(drawn[:, 4:].reshape(-1, 3, num_labels), 1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = both / shown
        f1 = np.where(shown > 0, 2 * both / (shown + called), np.nan)  # of labels that were drawn
    takes_of_label = (sums.of_labels.reshape(num_takes, 3, num_labels)[:, 0] > 0).sum(0)
    return Intervals(
        accuracy=interval_of(right / frames, num_takes),
        take_accuracy=interval_of(votes / num_takes, num_takes),
        macro_f1=interval_of(np.nanmean(f1, axis=1), num_takes),
        log_loss=_percentiles(loss / frames),
        recall={
            label: interval_of(recall[:, index], int(takes_of_label[index]))
            for index, label in enumerate(predictions.labels)
            if takes_of_label[index]
        },
    )


def standard_error(is_right: npt.NDArray[np.bool_], takes: Sequence[str]) -> float:
    """Return the standard error of an accuracy over takes: the deviation of what the bootstrap draws.

    Args:
        is_right: bool [num_frames].
        takes: The take of each frame.

    Returns:
        A share, 0..1; 0 if there is one take only.
    """
    return float(np.std(_drawn_shares(is_right, takes)[0]))


def accuracy_difference_interval(reference: pd.DataFrame, other: pd.DataFrame) -> tuple[float, float] | None:
    """Return between what lies the difference in accuracy, `other` minus `reference`, by the same takes for both.

    Args:
        reference: `take`, `frame_id` and `is_right` of each frame.
        other: The same of another model.

    Returns:
        Lower and upper end as shares, -1..1; None if they were not scored on the same frames, or on one take only.
    """
    key = ["take", "frame_id"]
    both = reference.merge(other, on=key, suffixes=("_reference", "_other"), validate="one_to_one")
    if len(both) != len(reference) or len(both) != len(other):
        return None
    gained = both["is_right_other"].astype(int) - both["is_right_reference"].astype(int)
    return _difference(gained.groupby(both["take"]).agg(["sum", "count"]).to_numpy(float))


def paired_difference_interval(reference: RightAnswers, other: RightAnswers) -> tuple[float, float] | None:
    """Return what `accuracy_difference_interval` does, of takes whose answers were counted.

    Args:
        reference: Of each take how many answers are right, and how many there are.
        other: The same of another model.

    Returns:
        Lower and upper end as shares, -1..1; None if they did not answer the same, or on one take only.
    """
    takes = sorted(reference)
    if takes != sorted(other) or any(reference[take][1] != other[take][1] for take in takes):
        return None
    pairs = [(other[take][0] - reference[take][0], reference[take][1]) for take in takes]
    return _difference(np.array(pairs, float).reshape(-1, 2))


def _difference(of_takes: Floats) -> tuple[float, float] | None:
    """Return between what the share lies that was gained.

    Args:
        of_takes: How many more answers are right, and how many there are, [num_takes, 2].
    """
    if len(of_takes) < 2:
        return None
    sums, counts = _drawn(of_takes).T
    found = _percentiles(sums / counts)
    return found["low"], found["high"]


def _drawn_shares(flags: npt.NDArray[np.bool_], takes: Iterable[str]) -> tuple[Floats, int]:
    """Return the share of frames that have a property, [NUM_RESAMPLES], and how many takes were drawn from."""
    of_takes = pd.Series(flags.astype(float)).groupby(np.array(list(takes), str)).agg(["sum", "count"]).to_numpy()
    sums, counts = _drawn(of_takes).T
    return sums / counts, len(of_takes)


def _drawn(of_takes: Floats) -> Floats:
    """Add up what takes have that are drawn, [num_takes, num_sums] to [NUM_RESAMPLES, num_sums]."""
    generator, num_takes = np.random.default_rng(_SEED), len(of_takes)
    at_once = max(1, _MAX_DRAWN_AT_ONCE // num_takes)
    sizes = [min(at_once, NUM_RESAMPLES - begin) for begin in range(0, NUM_RESAMPLES, at_once)]
    return np.concatenate(
        [generator.multinomial(num_takes, np.full(num_takes, 1 / num_takes), size) @ of_takes for size in sizes]
    )


def share_interval(flags: npt.NDArray[np.bool_], takes: Iterable[str]) -> Interval:
    """Return between what the share of frames lies that have a property, were other takes filmed.

    Args:
        flags: bool [num_frames].
        takes: The take of each frame.
    """
    return interval_of(*_drawn_shares(flags, takes))


def interval_of(values: Floats, num_takes: int) -> Interval:
    """Return between what a share lies.

    Args:
        values: What the bootstrap gives, [num_resamples].
        num_takes: That were drawn from. If all values are 0, or all are 1, the interval is what so many takes can
            promise; of a single one, which tells nothing about others, it is all there is.
    """
    if num_takes < 2:
        return {"low": 0.0, "high": 1.0}
    found = _percentiles(values)
    certain = (0.5 - LEVEL_PERCENT / 200) ** (1 / num_takes)
    if found["low"] == 1:
        return {"low": certain, "high": 1.0}
    if found["high"] == 0:
        return {"low": 0.0, "high": 1 - certain}
    return found


def _percentiles(values: Floats) -> Interval:
    tail = (100 - LEVEL_PERCENT) / 2
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return {"low": float(low), "high": float(high)}
