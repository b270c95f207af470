"""How much each row counts when a head is trained."""

import numpy as np
import numpy.typing as npt


def class_weights(label_indices: npt.NDArray[np.int64], num_labels: int) -> npt.NDArray[np.float32]:
    """Return a weight for each label so that every label adds the same to the loss; the mean over rows is 1."""
    counts = np.bincount(label_indices, minlength=num_labels)
    weights: npt.NDArray[np.float32] = (counts.sum() / (num_labels * np.maximum(counts, 1))).astype(np.float32)
    return weights


def row_weights(
    label_indices: npt.NDArray[np.int64], num_labels: int, *, class_balance: bool
) -> npt.NDArray[np.float32]:
    """Return a weight for each row: all 1, or those of `class_weights`."""
    if not class_balance:
        return np.ones(len(label_indices), np.float32)
    return class_weights(label_indices, num_labels)[label_indices]
