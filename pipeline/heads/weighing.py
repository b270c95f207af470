"""How much each row counts when a head is trained."""

import numpy as np
import numpy.typing as npt


def output_weights(
    label_indices: npt.NDArray[np.int64], num_labels: int, *, class_balance: bool
) -> npt.NDArray[np.float32]:
    """Return what a row of each output counts.

    What is none of the labels counts as much, all of it together, as a label does in the mean, however much there is:
    so it means the same for thirty photos and for an hour of video.

    Args:
        label_indices: int64 [num_rows]; `num_labels` for what is none of them.
        num_labels: How many labels there are.
        class_balance: Whether every label adds the same to the loss; if not, every frame of one does.

    Returns:
        float32 [num_labels], or [num_labels + 1] if there is anything that is none of them. Of rows that show a label
        the mean is 1.
    """
    counts = np.bincount(label_indices, minlength=num_labels)
    balanced = counts[:num_labels].sum() / num_labels / np.maximum(counts, 1)
    weights: npt.NDArray[np.float32] = balanced.astype(np.float32)
    if not class_balance:
        weights[:num_labels] = 1
    return weights


def row_weights(
    label_indices: npt.NDArray[np.int64], num_labels: int, *, class_balance: bool
) -> npt.NDArray[np.float32]:
    """Return a weight for each row: that of its output (see `output_weights`)."""
    return output_weights(label_indices, num_labels, class_balance=class_balance)[label_indices]
