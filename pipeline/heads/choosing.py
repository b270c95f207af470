"""Chooses how strongly a head is regularized, by cross-validation over takes, and how sure it may be of itself."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import precision_recall_curve
from threadpoolctl import threadpool_limits

from pipeline.heads.regression import fit_path
from pipeline.heads.weighing import row_weights
from pipeline.takes.rows import Rows

# Tried in this order, the strongest first; three a factor of ten do not part from their neighbours in bench/heads.
STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
DEFAULT_STRENGTH = 0.03  # where nothing can be held out to choose one
DEFAULT_THRESHOLD = 0.5  # likewise; all else together is as probable as the label then

_MAX_LOG_TEMPERATURE = 3.0


@dataclass(frozen=True)
class Choice:
    """What cross-validation chose.

    Attributes:
        strength: Of the regularization (see `regression`).
        temperature: That logits are divided by, so that probabilities keep what they promise.
        threshold: See `head_file.Head`.
        path: A row for each strength: regularization, out_of_fold_loss (in nats), out_of_fold_accuracy (0..1); empty
            if nothing could be held out.
        logits: Out of fold and divided by the temperature, float64 [num_scored_frames, num_outputs].
        actual: The label of each of these frames, int64 [num_scored_frames].
    """

    strength: float
    temperature: float
    threshold: float | None
    path: pd.DataFrame
    logits: npt.NDArray[np.float64]
    actual: npt.NDArray[np.int64]


def choose(
    rows: Rows,
    folds: Sequence[Sequence[int]],
    strengths: Sequence[float],
    *,
    class_balance: bool,
    keep_percent: float,
) -> Choice:
    """Hold one fold after the other out; choose the strength that is right most often, and what belongs to it.

    Frames of the labels alone are asked: what is none of them is learned from, and judged elsewhere.

    Of equals the one with the lowest loss is chosen. Copies take no part in that: they are near to their frames, and
    three times as many rows tell no more. They do take part in the temperature, since heads that learned from them are
    surer of themselves.

    Args:
        rows: To train on.
        folds: Indices of the units that are held out together; what is in none is always trained on.
        strengths: To choose from; of a single one the temperature alone is chosen.
        class_balance: Whether every label counts the same.
        keep_percent: Of the frames, at the threshold.
    """
    frames, num_labels = rows.only(rows.are_frames), len(rows.labels)
    is_scored = np.logical_or.reduce([np.zeros(len(frames), bool), *(frames.of_units(fold) for fold in folds)])
    is_scored &= frames.are_of_labels
    if not is_scored.any():
        strength = strengths[0] if len(strengths) == 1 else DEFAULT_STRENGTH
        nothing = np.zeros((0, rows.num_outputs)), np.zeros(0, np.int64)
        return Choice(strength, 1.0, DEFAULT_THRESHOLD if rows.have_others else None, _path([], [], []), *nothing)
    actual = frames.label_indices[is_scored]
    weights = row_weights(actual, num_labels, class_balance=class_balance)
    logits = _out_of_fold(frames, frames, folds, strengths, class_balance=class_balance)[:, is_scored]
    losses = [_loss(of_one, actual, weights) for of_one in logits]
    accuracies = [float(np.average(of_one[:, :num_labels].argmax(1) == actual, weights=weights)) for of_one in logits]
    best = max(range(len(strengths)), key=lambda index: (accuracies[index], -losses[index]))
    chosen = logits[best]
    if len(frames) < len(rows):
        chosen = _out_of_fold(rows, frames, folds, [strengths[best]], class_balance=class_balance)[0, is_scored]
    temperature = temperature_of(chosen, actual, weights)
    probabilities = softmax(chosen / temperature, axis=1)[:, :num_labels]
    threshold = threshold_of(probabilities, keep_percent) if rows.have_others else None
    path = _path(strengths, losses, accuracies)
    return Choice(strengths[best], temperature, threshold, path, chosen / temperature, actual)


def least_margin_of(margins: npt.NDArray[np.float64], are_true: npt.NDArray[np.bool_]) -> float:
    """Return the margin from which on a yes is to be said, so that F1 is highest on frames that were not trained on.

    Where takes of a label are few, a probability of a half is seldom reached by those that were held out. (Z. Lipton
    et al., Optimal Thresholding of Classifiers to Maximize F1 Measure, ECML PKDD 2014.)

    Args:
        margins: Logit of yes minus that of no, float64 [num_frames].
        are_true: Whether yes is right, bool [num_frames].

    Returns:
        Midway between the lowest margin of those that are to be a yes and the highest of the others; one below all if
        there are no others, and 0 if none is true.
    """
    if not are_true.any():
        return 0.0
    precision, recall, thresholds = precision_recall_curve(are_true, margins)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    best = int(f1[:-1].argmax())
    below = margins[margins < thresholds[best]]
    return float((thresholds[best] + below.max()) / 2 if len(below) else thresholds[best] - 1)


def threshold_of(probabilities: npt.NDArray[np.floating], keep_percent: float) -> float:
    """Return the threshold that a share of frames reaches.

    Args:
        probabilities: [num_frames, num_labels], of frames that were not trained on.
        keep_percent: Percent of the frames whose most probable label is to be as probable as the threshold or more.
    """
    return float(np.percentile(probabilities.max(1), 100 - keep_percent))


def temperature_of(
    logits: npt.NDArray[np.float64], label_indices: npt.NDArray[np.int64], weights: npt.NDArray[np.float32]
) -> float:
    """Return the temperature at which logits have the lowest cross entropy.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (https://arxiv.org/abs/1706.04599).

    Args:
        logits: float64 [num_rows, num_labels], of rows that were not trained on.
        label_indices: int64 [num_rows].
        weights: float32 [num_rows].
    """
    bounds = (-_MAX_LOG_TEMPERATURE, _MAX_LOG_TEMPERATURE)
    found = minimize_scalar(
        lambda logarithm: _loss(logits / np.exp(logarithm), label_indices, weights), bounds=bounds, method="bounded"
    )
    return float(np.exp(found.x))


def _out_of_fold(
    rows: Rows, frames: Rows, folds: Sequence[Sequence[int]], strengths: Sequence[float], *, class_balance: bool
) -> npt.NDArray[np.float64]:
    """Return logits [num_strengths, num_frames, num_outputs] by heads that did not see a frame; 0 if it is in no fold.

    Args:
        rows: What heads are trained on, but for what is held out.
        frames: What they are asked about.
        folds: Indices of the units that are held out together.
        strengths: Of the regularization.
        class_balance: Whether every label counts the same.
    """
    logits = np.zeros((len(strengths), len(frames), rows.num_outputs))

    def fill(fold: Sequence[int]) -> None:
        held_out, train = frames.of_units(fold), rows.only(~rows.of_units(fold))
        weights = row_weights(train.label_indices, len(rows.labels), class_balance=class_balance)
        for number, (matrix, bias) in enumerate(fit_path(train.features, train.label_indices, weights, strengths)):
            logits[number, held_out] = frames.features[held_out] @ matrix + bias

    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as executor:
        list(executor.map(fill, folds))
    return logits


def _loss(
    logits: npt.NDArray[np.float64], label_indices: npt.NDArray[np.int64], weights: npt.NDArray[np.float32]
) -> float:
    losses = -log_softmax(logits, axis=1)[np.arange(len(logits)), label_indices]
    return float(np.average(losses, weights=weights))


def _path(strengths: Sequence[float], losses: Sequence[float], accuracies: Sequence[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {"regularization": strengths, "out_of_fold_loss": losses, "out_of_fold_accuracy": accuracies}, dtype=float
    )
