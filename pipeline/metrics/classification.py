"""How good a classifier is, from its probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

CROSSVAL = "crossval"  # what leading figures come from, if it is not the test part


@dataclass(frozen=True)
class Predictions:
    """What a model says about frames.

    Attributes:
        labels: Label names in the order of the columns of `probabilities`.
        takes: The take of each frame, "<label>/<take>".
        frame_ids: The name of each frame.
        actual: int64 [num_frames], index of each frame's label.
        probabilities: float32 [num_frames, num_labels]; rows add up to less than 1 if the model knows that something
            may be none of the labels.
    """

    labels: tuple[str, ...]
    takes: tuple[str, ...]
    frame_ids: tuple[str, ...]
    actual: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """Return the index of each frame's most probable label, int64 [num_frames]."""
        indices: npt.NDArray[np.int64] = self.probabilities.argmax(1)
        return indices

    def only(self, indices: npt.NDArray[np.int64]) -> "Predictions":
        """Return the predictions for some of the frames."""
        return Predictions(
            labels=self.labels,
            takes=tuple(self.takes[i] for i in indices),
            frame_ids=tuple(self.frame_ids[i] for i in indices),
            actual=self.actual[indices],
            probabilities=self.probabilities[indices],
        )

    def table(self) -> pd.DataFrame:
        """Return a row a frame: frame_id, take, actual, predicted, probability (of what was predicted), is_right."""
        names = np.array(self.labels, object)
        return pd.DataFrame(
            {
                "frame_id": self.frame_ids,
                "take": self.takes,
                "actual": names[self.actual],
                "predicted": names[self.predicted],
                "probability": self.probabilities.max(1).round(6),
                "is_right": self.predicted == self.actual,
            }
        )

    def confusion(self) -> pd.DataFrame:
        """Return a row for each pair of labels: actual, predicted, num_frames."""
        every = range(len(self.labels))
        counts = count_pairs(self.actual, self.predicted, every)
        rows = [(self.labels[a], self.labels[p], int(counts[a, p])) for a in every for p in every]
        return pd.DataFrame(rows, columns=["actual", "predicted", "num_frames"])


def count_pairs(actual: npt.ArrayLike, predicted: npt.ArrayLike, every: Sequence[str] | range) -> npt.NDArray[np.int64]:
    """Return the confusion matrix: how many frames of each label get which, int64 [num_labels, num_labels].

    Args:
        actual: Label of each frame, the matrix's rows.
        predicted: Likewise, its columns.
        every: All labels, in the matrix's order.
    """
    pairs = pd.crosstab(np.asarray(actual), np.asarray(predicted))
    counts: npt.NDArray[np.int64] = pairs.reindex(index=list(every), columns=list(every), fill_value=0).to_numpy()
    return counts


def score(predictions: Predictions, reference: Predictions, *, num_bins: int) -> dict[str, object]:
    """Compute the metrics that depend on predictions alone.

    Args:
        predictions: Of the model that is scored.
        reference: Of the float32 model on the same frames.
        num_bins: Bins of the expected calibration error.

    Returns:
        accuracy, baseline_accuracy (of always naming the most frequent label), take_accuracy, macro_f1, worst_recall
        (of the label that is recognized worst), log_loss, expected_calibration_error, agreement_with_float32,
        accuracy_drop (all fractions but log_loss, which is in nats), per_class.<label>.{precision,recall,f1},
        num_test_frames, num_test_takes.
    """
    counts = count_pairs(predictions.actual, predictions.predicted, range(len(predictions.labels)))
    right, num_actual, num_predicted = np.diag(counts), counts.sum(1), counts.sum(0)
    recall, precision = right / np.maximum(num_actual, 1), right / np.maximum(num_predicted, 1)
    f1 = 2 * right / np.maximum(num_actual + num_predicted, 1)
    accuracy = _accuracy(predictions)
    return {
        "accuracy": accuracy,
        "baseline_accuracy": float(np.bincount(predictions.actual).max() / len(predictions.actual)),
        "take_accuracy": take_accuracy(predictions),
        "macro_f1": float(np.mean(f1)),
        "worst_recall": float(np.min(recall[np.unique(predictions.actual)])),
        "log_loss": float(losses_of(predictions).mean()),
        "expected_calibration_error": expected_calibration_error(predictions, num_bins),
        "agreement_with_float32": agreement(predictions, reference),
        "accuracy_drop": _accuracy(reference) - accuracy,
        "per_class": {
            label: {"precision": float(precision[i]), "recall": float(recall[i]), "f1": float(f1[i])}
            for i, label in enumerate(predictions.labels)
        },
        "num_test_frames": len(predictions.actual),
        "num_test_takes": len(set(predictions.takes)),
    }


def agreement(predictions: Predictions, other: Predictions) -> float:
    """Return the share of frames that get the same most probable label; both are of the same frames."""
    return float(np.mean(predictions.predicted == other.predicted))


def largest_difference(predictions: Predictions, other: Predictions) -> float:
    """Return the largest difference between two probabilities of the same label and frame."""
    return float(np.abs(predictions.probabilities - other.probabilities).max())


def take_accuracy(predictions: Predictions) -> float:
    """Return the share of takes that are right when their frames vote.

    The label with the most frames wins; of labels with equally many, the one with the higher mean probability.
    """
    takes = np.array(predictions.takes, object)
    return float(np.mean([vote_is_right(predictions, takes == take) for take in dict.fromkeys(predictions.takes)]))


def expected_calibration_error(predictions: Predictions, num_bins: int) -> float:
    """Return the mean gap between confidence and accuracy over bins of equal width, weighted by their frames.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (https://arxiv.org/abs/1706.04599).
    """
    confidence = predictions.probabilities.max(1).astype(np.float64)
    is_right = predictions.predicted == predictions.actual
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    gaps = [abs(confidence[bins == b].sum() - is_right[bins == b].sum()) for b in range(num_bins)]
    return float(np.sum(gaps) / len(confidence))


def _accuracy(predictions: Predictions) -> float:
    return float(np.mean(predictions.predicted == predictions.actual))


def losses_of(predictions: Predictions) -> npt.NDArray[np.float64]:
    """Return the negative logarithm of the probability of the right label of each frame, in nats, [num_frames].

    A probability of 0 counts as the smallest float32.
    """
    probabilities = predictions.probabilities.astype(np.float64)
    of_actual = probabilities[np.arange(len(probabilities)), predictions.actual]
    losses: npt.NDArray[np.float64] = -np.log(np.clip(of_actual, np.finfo(np.float32).tiny, 1))
    return losses


def vote_is_right(predictions: Predictions, mask: npt.NDArray[np.bool_]) -> bool:
    """Tell whether frames of one take, those of a mask bool [num_frames], are right when they vote."""
    votes = np.bincount(predictions.predicted[mask], minlength=len(predictions.labels))
    mean_probabilities = predictions.probabilities[mask].mean(0, dtype=np.float64)
    winner = max(range(len(votes)), key=lambda i: (votes[i], mean_probabilities[i]))
    return bool(winner == predictions.actual[mask][0])
