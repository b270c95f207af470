"""L2-regularized logistic regression on standardized features: a convex problem, solved to convergence.

The strength of the regularization is that of the mean loss, so it means the same for any number of rows:

    minimize  sum_i w_i * cross_entropy_i / sum_i w_i  +  strength / 2 * |weights|^2

over the weights of features that have mean 0 and variance 1; the bias is free. scikit-learn's solver (L-BFGS) does it;
its C is 1 / (strength * sum_i w_i). Means and deviations are folded into the weights afterwards, so that a head is one
matrix and one vector whatever it was trained on.
"""

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

Floats = npt.NDArray[np.float32]
Weights = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]  # [feature_length, num_labels] and [num_labels]

_MAX_ITERATIONS = 2000  # of L-BFGS; weak regularization of 2,624 pictures took 300
_TOLERANCE = 1e-4  # largest entry of the gradient of what is minimized; ten times less changes nothing
_ROWS_AT_ONCE = 256
_MIN_DEVIATION = 1e-6  # of a feature; one that varies less is the same on all rows


def fit_path(
    features: Floats, label_indices: npt.NDArray[np.int64], row_weights: Floats, strengths: Sequence[float]
) -> Iterator[Weights]:
    """Fit a head for each strength, each from where the one before ended.

    Args:
        features: float32 [num_rows, feature_length].
        label_indices: int64 [num_rows]; at least two labels, from 0 without a gap.
        row_weights: float32 [num_rows], above 0.
        strengths: Of the regularization; the strongest first is the quickest way.

    Yields:
        Weights float64 [feature_length, num_labels] and bias [num_labels] for features as they are, not standardized.
    """
    standardized, mean, deviation = _standardized(features)
    solver = LogisticRegression(warm_start=True, max_iter=_MAX_ITERATIONS, tol=_TOLERANCE)
    for strength in strengths:
        solver.set_params(C=1 / (strength * float(row_weights.sum(dtype=np.float64))))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # what is not there after so many steps is near enough
            solver.fit(standardized, label_indices, sample_weight=row_weights)
        weights, bias = _of_every_label(solver.coef_.T.astype(np.float64), solver.intercept_.astype(np.float64))
        weights = weights / deviation[:, np.newaxis]
        yield weights, bias - mean @ weights


def _standardized(features: Floats) -> tuple[Floats, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return features with mean 0 and deviation 1, and the mean and deviation that they had, float64 [feature_length].

    Goes through the rows some at a time, which stay in the processor's cache: NumPy's `std` in float64 would make an
    array of twice the size.
    """
    some = [slice(start, start + _ROWS_AT_ONCE) for start in range(0, len(features), _ROWS_AT_ONCE)]
    mean = np.sum([features[rows].sum(0, dtype=np.float64) for rows in some], axis=0) / len(features)
    standardized, squares = np.empty_like(features), np.zeros(features.shape[1])
    for rows in some:
        np.subtract(features[rows], mean.astype(np.float32), out=standardized[rows])
        squares += np.einsum("ij,ij->j", standardized[rows], standardized[rows])
    deviation = np.sqrt(squares / len(features))
    deviation[deviation < _MIN_DEVIATION] = 1
    for rows in some:
        standardized[rows] /= deviation.astype(np.float32)
    return standardized, mean, deviation


def _of_every_label(weights: npt.NDArray[np.float64], bias: npt.NDArray[np.float64]) -> Weights:
    """Return a column for each label: of two labels scikit-learn keeps one, which is the difference between both."""
    if weights.shape[1] > 1:
        return weights, bias
    return np.hstack([-weights / 2, weights / 2]), np.concatenate([-bias / 2, bias / 2])
