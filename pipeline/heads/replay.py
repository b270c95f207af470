"""What a head that goes on learning needs of what it was trained on: a few centres of each label's features.

A network that is trained on something new forgets what it knew (M. McCloskey and N. Cohen, Catastrophic interference in
connectionist networks, Psychology of Learning and Motivation 24, 1989). Showing it some of the old among the new keeps
it from that (A. Robins, Catastrophic forgetting, rehearsal and pseudorehearsal, Connection Science 7, 1995). The old
are no pictures here: they are the means that k-means finds among the features of a label's frames.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from pipeline.litert.trainable import HeadShape
from pipeline.takes.rows import Rows

_NUM_STARTS = 10  # of k-means, of which the best is kept
_SEED = 0


@dataclass(frozen=True)
class LabelledFeatures:
    """Features with what they show.

    Attributes:
        features: float32 [num, num_features].
        rows: int64 [num], the row of the head's weights that each belongs to.
    """

    features: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def one_hot(self, num_outputs: int) -> npt.NDArray[np.float32]:
        """Return what a head that learns is given for labels, float32 [num, num_outputs]."""
        return np.eye(num_outputs, dtype=np.float32)[self.rows]

    def are_right(
        self, weights: npt.NDArray[np.float32], bias: npt.NDArray[np.float32], num_named: int
    ) -> npt.NDArray[np.bool_]:
        """Tell which of them a head names rightly, bool [num].

        Args:
            weights: float32 [num_outputs, num_features].
            bias: float32 [num_outputs].
            num_named: Of the outputs, the first ones: those that have a name.
        """
        logits = self.features @ weights[:num_named].T + bias[:num_named]
        is_right: npt.NDArray[np.bool_] = logits.argmax(1) == self.rows
        return is_right


def centres_of(rows: Rows, shape: HeadShape, num_centres: int) -> LabelledFeatures:
    """Return centres of each label's frames, and of what is none of them if the head knows that.

    Frames of test takes are left out: they tell what was forgotten (`check_of`).

    Args:
        rows: Those that the head was trained on, or more.
        shape: Of the head that learns.
        num_centres: Of a label; fewer if it has fewer different frames.
    """
    frames = rows.only(rows.are_frames & rows.are_for_training)
    found = [_centres(frames.features[frames.label_indices == index], num_centres) for index in _indices(shape)]
    return LabelledFeatures(np.concatenate(found), np.repeat(shape.known_rows, [len(one) for one in found]))


def check_of(rows: Rows, shape: HeadShape, num_frames: int) -> LabelledFeatures:
    """Return frames of test takes, evenly spread: at most so many of each label, in the order of the labels."""
    frames = rows.only(rows.are_frames & ~rows.are_for_training)
    chosen = [_spread(np.flatnonzero(frames.label_indices == index), num_frames) for index in range(shape.num_labels)]
    picked = np.concatenate(chosen)
    return LabelledFeatures(frames.features[picked], frames.label_indices[picked])


def mean_squared_length(rows: Rows) -> float:
    """Return how long a frame's feature vector is, squared, on average."""
    return float(np.mean(np.sum(rows.features[rows.are_frames].astype(np.float64) ** 2, axis=1)))


def _indices(shape: HeadShape) -> list[int]:
    """Return the indices of labels in `Rows`, and the one that means none of them; as many as rows are known."""
    return list(range(len(shape.known_rows)))


def _centres(features: npt.NDArray[np.float32], num_centres: int) -> npt.NDArray[np.float32]:
    different = np.unique(features, axis=0)
    if len(different) <= num_centres:
        return different
    with threadpool_limits(1):  # the same bits on any number of processors
        found = KMeans(num_centres, n_init=_NUM_STARTS, random_state=_SEED).fit(different)
    centres: npt.NDArray[np.float32] = found.cluster_centers_.astype(np.float32)
    return centres


def _spread(indices: npt.NDArray[np.intp], num: int) -> npt.NDArray[np.intp]:
    return indices[np.unique(np.linspace(0, len(indices) - 1, num).round().astype(int))] if len(indices) else indices
