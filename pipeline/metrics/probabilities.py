"""Makes probabilities of whatever a classifier gives."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

SOFTMAX, LOGISTIC = "SOFTMAX", "LOGISTIC"
SLICED_SOFTMAX = "SLICE of SOFTMAX"  # what it leaves out is that the picture shows none of the labels
_SUM_TOLERANCE = 0.02  # float16 models of a thousand labels and hand-made softmaxes stay well within it


def to_probabilities(outputs: Floats, *, made_by: str, step: float) -> tuple[Floats, str]:
    """Turn outputs into probabilities of labels that exclude each other.

    What the outputs are is decided once for all frames, never frame by frame. The operator that made them tells:
    SOFTMAX makes probabilities, and a part of its output stays as it is; LOGISTIC makes a score from 0 to 1 for each
    label by itself, which is divided by the scores' sum. After any other operator the values tell: outputs of which
    none is negative and which add up to 1 on every frame are probabilities (logits do not do that by chance); all
    others are logits, which softmax is applied to.

    An integer output cannot say less than one step: a 0 in it means less than half a step and counts as half a step,
    or the log loss would be infinite.

    Args:
        outputs: float32 [num_frames, num_labels].
        made_by: Name of the operator that made them, such as `SOFTMAX`.
        step: What the last bit of an integer output stands for; 0 for a float output.

    Returns:
        float32 [num_frames, num_labels], 0..1, each row adding up to 1, or to less if the model says how probable none
        of the labels is; and what the outputs were taken for.
    """
    if made_by == SLICED_SOFTMAX:
        return np.maximum(outputs, step / 2), "probabilities"
    if made_by not in (SOFTMAX, LOGISTIC) and not _look_like_probabilities(outputs):
        exponentials = np.exp(outputs - outputs.max(1, keepdims=True), dtype=np.float64)
        return _normalized(exponentials), "logits"
    floor = step / 2 or np.finfo(np.float32).tiny
    kind = "scores" if made_by == LOGISTIC else "probabilities"
    return _normalized(np.maximum(outputs, floor, dtype=np.float64)), kind


def named(labels: Sequence[str], probabilities: Floats, threshold: float | None) -> str | None:
    """Return the most probable label; None if it is less probable than the threshold, if there is one.

    Args:
        labels: In the order of the probabilities.
        probabilities: float32 [num_labels].
        threshold: 0..1.
    """
    best = int(probabilities.argmax())
    return labels[best] if threshold is None or probabilities[best] >= threshold else None


def _look_like_probabilities(outputs: Floats) -> bool:
    return bool((outputs >= 0).all() and (np.abs(outputs.sum(1) - 1) <= _SUM_TOLERANCE).all())


def _normalized(values: npt.NDArray[np.float64]) -> Floats:
    probabilities: Floats = (values / values.sum(1, keepdims=True)).astype(np.float32)
    return probabilities
