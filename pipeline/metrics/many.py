"""How good a head is whose labels may be true together: each label is a question of its own."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.metrics.classification import Predictions, vote_is_right
from pipeline.metrics.figures import figures_alone
from pipeline.metrics.intervals import share_interval, standard_error

_SEPARATOR = ";"  # between labels that are true together, in tables
_MEANS = ("accuracy", "take_accuracy", "log_loss", "expected_calibration_error")


@dataclass(frozen=True)
class ManyPredictions:
    """What a head says about frames, label by label.

    Attributes:
        of_label: For each label, whether it is true of frames (labels `no` and `yes`). All are about the same frames.
    """

    of_label: Mapping[str, Predictions]

    @classmethod
    def of(cls, found: Mapping[str, Predictions], takes: Collection[str]) -> "ManyPredictions":
        """Keep the frames that every label's predictions are about, and of these the takes that were asked."""
        places = {
            label: {name: place for place, name in enumerate(zip(one.takes, one.frame_ids, strict=True))}
            for label, one in found.items()
        }
        first, *others = places.values()
        kept = [name for name in first if name[0] in takes and all(name in other for other in others)]
        return cls(
            {
                label: one.only(np.array([places[label][name] for name in kept], np.int64))
                for label, one in found.items()
            }
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels in the order of the head's output."""
        return tuple(self.of_label)

    @property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """Return how probable each label is, float32 [num_frames, num_labels]."""
        return np.stack([one.probabilities[:, 1] for one in self.of_label.values()], axis=1)

    @property
    def are_right(self) -> npt.NDArray[np.bool_]:
        """Tell which answers are right, bool [num_frames, num_labels]."""
        return np.stack([one.predicted == one.actual for one in self.of_label.values()], axis=1)

    @property
    def takes(self) -> tuple[str, ...]:
        """Return the take of each frame."""
        return next(iter(self.of_label.values())).takes

    def table(self) -> pd.DataFrame:
        """Return a row a frame: frame_id, take, actual, predicted (labels with `;` between), probability, is_right.

        The probability is that of the least certain answer, and right is a frame of which all are.
        """
        first = next(iter(self.of_label.values()))
        actual = np.stack([one.actual == 1 for one in self.of_label.values()], axis=1)
        predicted = np.stack([one.predicted == 1 for one in self.of_label.values()], axis=1)
        certain = np.stack([one.probabilities.max(1) for one in self.of_label.values()], axis=1)
        return pd.DataFrame(
            {
                "frame_id": first.frame_ids,
                "take": first.takes,
                "actual": self._names(actual),
                "predicted": self._names(predicted),
                "probability": certain.min(1).round(6),
                "is_right": self.are_right.all(1),
            }
        )

    def _names(self, are_true: npt.NDArray[np.bool_]) -> list[str]:
        labels = np.array(self.labels, object)
        return [_SEPARATOR.join(labels[row]) for row in are_true]


def figures_of_many(predictions: ManyPredictions, *, num_bins: int) -> dict[str, Any]:
    """Return the figures of a head whose labels may be true together.

    Args:
        predictions: Of the head.
        num_bins: Bins of the expected calibration error.

    Returns:
        accuracy (share of the answers that are right, over frames and labels), take_accuracy, log_loss and
        expected_calibration_error (means over labels), macro_f1 (mean over labels of the F1 of `yes`), worst_recall (of
        `yes`, of the label with the lowest), exact_accuracy (share of frames of which all answers are right), per_class
        with precision, recall and f1 of `yes`, and the accuracy; num_test_frames and num_test_takes; and the 95%
        intervals over takes of accuracy, take_accuracy and recall, with the standard error of the accuracy.
    """
    found = {label: figures_alone(one, num_bins=num_bins) for label, one in predictions.of_label.items()}
    of_yes = {label: figures["per_class"]["yes"] for label, figures in found.items()}
    first = next(iter(found.values()))
    return {
        **{name: float(np.mean([figures[name] for figures in found.values()])) for name in _MEANS},
        "macro_f1": float(np.mean([one["f1"] for one in of_yes.values()])),
        "worst_recall": min(one["recall"] for one in of_yes.values()),
        "exact_accuracy": float(predictions.table()["is_right"].mean()),
        "per_class": {label: one | {"accuracy": found[label]["accuracy"]} for label, one in of_yes.items()},
        "num_test_frames": first["num_test_frames"],
        "num_test_takes": first["num_test_takes"],
        **_sureness(predictions),
    }


def _sureness(predictions: ManyPredictions) -> dict[str, Any]:
    """Return the intervals, and the standard error of the accuracy; a single take has none."""
    every = list(predictions.of_label.values())
    takes: npt.NDArray[np.object_] = np.array(every[0].takes, object)
    are_right = predictions.are_right
    repeated = [take for take in every[0].takes for _ in every]
    error = standard_error(are_right.ravel(), repeated)
    if len(set(takes)) < 2:
        return {"standard_error": error, "intervals": {}}
    names = list(dict.fromkeys(takes))
    votes = np.array([[vote_is_right(one, takes == take) for one in every] for take in names])
    recalls = {
        label: share_interval(one.predicted[one.actual == 1] == 1, takes[one.actual == 1])
        for label, one in predictions.of_label.items()
        if (one.actual == 1).any()
    }
    return {
        "standard_error": error,
        "intervals": {
            "accuracy": share_interval(are_right.ravel(), repeated),
            "take_accuracy": share_interval(votes.ravel(), np.repeat(np.array(names, object), len(every))),
            "recall": recalls,
        },
    }
