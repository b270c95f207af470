"""What a client does with its rows: gradient descent on the cross-entropy, as `train` of a model that learns does it.

NumPy alone, as it runs in Flower's environment, too.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


class Weights(NamedTuple):
    """A head: logits = features @ matrix + bias.

    Attributes:
        matrix: float32 [num_features, num_outputs].
        bias: float32 [num_outputs].
    """

    matrix: Floats
    bias: Floats

    @classmethod
    def zeros(cls, num_features: int, num_outputs: int) -> "Weights":
        """Return the head that all begin with; the problem is convex, so any would do."""
        return cls(np.zeros((num_features, num_outputs), np.float32), np.zeros(num_outputs, np.float32))


class LocalRows(NamedTuple):
    """What one client learns from.

    Attributes:
        features: float32 [num_rows, num_features].
        label_indices: int64 [num_rows], outputs of the head.
        row_weights: float32 [num_rows], above 0.
    """

    features: Floats
    label_indices: npt.NDArray[np.int64]
    row_weights: Floats

    @property
    def total_weight(self) -> float:
        """Return what the client counts in the average."""
        return float(self.row_weights.sum(dtype=np.float64))


def rows_of_client(
    features: Floats,
    label_indices: npt.NDArray[np.int64],
    row_weights: Floats,
    client_of_row: npt.NDArray[np.int64],
    client: int,
) -> LocalRows:
    """Return a client's rows with its share of those that all have.

    All clients have the rows of client -1. Each counts them in proportion to its own rows, so that all clients together
    count them once: the average of all clients' gradients is the gradient on all rows.

    Args:
        features: float32 [num_rows, num_features].
        label_indices: int64 [num_rows].
        row_weights: float32 [num_rows]; 0 for rows that are held out.
        client_of_row: int64 [num_rows].
        client: Whose rows.
    """
    is_held, is_shared = row_weights > 0, client_of_row == -1
    own = np.flatnonzero(is_held & (client_of_row == client))
    everyone = row_weights[is_held & ~is_shared].sum(dtype=np.float64)
    share = row_weights[own].sum(dtype=np.float64) / everyone
    shared = np.flatnonzero(is_held & is_shared)
    weights = np.concatenate([row_weights[own], (row_weights[shared] * share).astype(np.float32)])
    chosen = np.concatenate([own, shared])
    return LocalRows(features[chosen], label_indices[chosen], weights)


def descend(start: Weights, rows: LocalRows, learning_rate: float, num_steps: int) -> Weights:
    """Take steps of gradient descent on the weighted mean of the cross-entropy, each on all rows.

    Args:
        start: Where to begin; stays as it is.
        rows: To learn from.
        learning_rate: Of each step.
        num_steps: How many.
    """
    matrix, bias = start.matrix.copy(), start.bias.copy()
    one_hot = np.eye(len(bias), dtype=np.float32)[rows.label_indices]
    shares = (rows.row_weights / rows.total_weight).astype(np.float32)[:, np.newaxis]
    rate = np.float32(learning_rate)
    for _ in range(num_steps):
        logits = rows.features @ matrix + bias
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        gradient = (exponentials / exponentials.sum(1, keepdims=True) - one_hot) * shares
        matrix -= rate * (rows.features.T @ gradient)
        bias -= rate * gradient.sum(0)
    return Weights(matrix, bias)
