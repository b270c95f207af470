"""The figures of a further head, from pixels: the same for one label and for labels that may be true together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config.heads import ONE
from pipeline.metrics.classification import Predictions
from pipeline.metrics.figures import figures_alone
from pipeline.metrics.intervals import RightAnswers, paired_difference_interval
from pipeline.metrics.many import ManyPredictions, figures_of_many

Floats = npt.NDArray[np.float32]

_LIKELY = 0.5  # a label that may be true beside others is named from here on


@dataclass(frozen=True)
class HeadScore:
    """How good a head is.

    Attributes:
        figures: As `classification.score` or `many.figures_of_many` tell them, with their intervals; empty if nothing
            was scored.
        right_answers: Of each take how many answers are right, and how many there are, one a frame, or one a frame and
            label: what the accuracy is the share of.
    """

    figures: dict[str, Any]
    right_answers: RightAnswers

    @classmethod
    def of(cls, predictions: Predictions | ManyPredictions | None, *, num_bins: int) -> "HeadScore":
        """Score predictions.

        Args:
            predictions: Of the head; None if there are none.
            num_bins: Bins of the expected calibration error.
        """
        if predictions is None:
            return cls({}, {})
        if isinstance(predictions, ManyPredictions):
            figures, are_right = figures_of_many(predictions, num_bins=num_bins), predictions.are_right
        else:
            figures = figures_alone(predictions, num_bins=num_bins)
            are_right = (predictions.predicted == predictions.actual)[:, np.newaxis]
        takes, codes = np.unique(np.array(predictions.takes, str), return_inverse=True)
        right, answers = np.bincount(codes, are_right.sum(1)), np.bincount(codes) * are_right.shape[1]
        return cls(figures, {str(take): (int(right[i]), int(answers[i])) for i, take in enumerate(takes)})

    def beside(self, reference: "HeadScore") -> dict[str, Any]:
        """Return the figures with `accuracy_drop` against another model, and its interval if both answered the same."""
        if not (self.figures and reference.figures):
            return self.figures | {"accuracy_drop": None}
        drop = {"accuracy_drop": reference.figures["accuracy"] - self.figures["accuracy"]}
        found = paired_difference_interval(self.right_answers, reference.right_answers)
        interval = {"accuracy_drop": dict(zip(("low", "high"), found, strict=True))} if found else {}
        return self.figures | drop | {"intervals": self.figures["intervals"] | interval}


def predictions_from_pixels(
    probabilities: Floats,
    frames: Sequence[tuple[str, str]],
    labels: tuple[str, ...],
    answers: Mapping[str, Sequence[str]],
    *,
    kind: str,
) -> Predictions | ManyPredictions | None:
    """Return what a head says about frames; None if no take among them was asked, or no label is true of any.

    Args:
        probabilities: float32 [num_frames, num_labels].
        frames: Take and name of each frame.
        labels: In the order of the head's output.
        answers: The labels of each take that was asked.
        kind: `one` or `many`, see `config.heads`.
    """
    asked = [i for i, (take, _) in enumerate(frames) if take in answers and (kind != ONE or answers[take])]
    if not asked:
        return None
    takes, names = zip(*(frames[i] for i in asked), strict=True)
    if kind == ONE:
        actual = np.array([labels.index(answers[take][0]) for take in takes])
        return Predictions(labels, takes, names, actual, probabilities[asked])
    of_label = {
        label: Predictions(
            labels=("no", "yes"),
            takes=takes,
            frame_ids=names,
            actual=np.array([int(label in answers[take]) for take in takes]),
            probabilities=np.stack([1 - probabilities[asked, i], probabilities[asked, i]], axis=1),
        )
        for i, label in enumerate(labels)
    }
    return ManyPredictions(of_label)


def agreement_of_heads(probabilities: Floats, other: Floats, *, kind: str) -> float:
    """Return the share of frames of which two models say the same.

    Args:
        probabilities: float32 [num_frames, num_labels].
        other: Likewise, of the same frames.
        kind: `one` or `many`, see `config.heads`.
    """
    if kind == ONE:
        return float(np.mean(probabilities.argmax(1) == other.argmax(1)))
    return float(np.mean(((probabilities >= _LIKELY) == (other >= _LIKELY)).all(1)))
