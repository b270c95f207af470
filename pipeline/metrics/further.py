"""The figures of a further head, from pixels: the same for one label and for labels that may be true together."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config.heads import ONE
from pipeline.metrics.classification import Predictions
from pipeline.metrics.figures import figures_alone
from pipeline.metrics.many import ManyPredictions, figures_of_many

Floats = npt.NDArray[np.float32]

_LIKELY = 0.5  # a label that may be true beside others is named from here on


def figures_from_pixels(
    probabilities: Floats,
    frames: Sequence[tuple[str, str]],
    labels: tuple[str, ...],
    answers: Mapping[str, Sequence[str]],
    *,
    kind: str,
    num_bins: int,
) -> dict[str, Any]:
    """Return the figures of a head on frames; none if no take among them was asked, or no label is true of any.

    Args:
        probabilities: float32 [num_frames, num_labels].
        frames: Take and name of each frame.
        labels: In the order of the head's output.
        answers: The labels of each take that was asked.
        kind: `one` or `many`, see `config.heads`.
        num_bins: Bins of the expected calibration error.
    """
    asked = [i for i, (take, _) in enumerate(frames) if take in answers and (kind != ONE or answers[take])]
    if not asked:
        return {}
    takes, names = zip(*(frames[i] for i in asked), strict=True)
    if kind == ONE:
        actual = np.array([labels.index(answers[take][0]) for take in takes])
        return figures_alone(Predictions(labels, takes, names, actual, probabilities[asked]), num_bins=num_bins)
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
    return figures_of_many(ManyPredictions(of_label), num_bins=num_bins)


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
