"""One scale of features for all clients, from the pictures that come with the app.

Central training standardizes features by all rows, which nobody in a federation may see. But all have the pictures of
other things: what varies among the labels varies among these, and their mean and deviation tell nothing about what
anybody filmed. Without a scale plain descent is slow along the mean that all features share, and what it has learned
after some rounds leans to the labels that are frequent.
"""

from typing import NamedTuple

import numpy as np

from pipeline.federated.descent import Floats, Weights

_FLOOR = 0.1  # of the mean deviation: what hardly varies among a few pictures must not outweigh all else


class Standardization(NamedTuple):
    """What clients subtract from features, and divide by.

    Attributes:
        mean: float32 [num_features].
        deviation: float32 [num_features], above 0.
    """

    mean: Floats
    deviation: Floats

    @classmethod
    def of(cls, features: Floats) -> "Standardization":
        """Return that of the features of some pictures, float32 [num, num_features]; of none: features stay.

        A deviation counts with a tenth of the mean deviation on top.
        """
        if len(features) < 2:
            return cls(np.zeros(features.shape[1], np.float32), np.ones(features.shape[1], np.float32))
        mean, deviation = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
        floor = _FLOOR * deviation.mean() or 1.0
        return cls(mean.astype(np.float32), (deviation + floor).astype(np.float32))

    def applied(self, features: Floats) -> Floats:
        """Return features that heads of the federation take, float32 [num, num_features]."""
        return (features - self.mean) / self.deviation

    def folded(self, weights: Weights) -> Weights:
        """Return a head for features as they are, which answers as this one does for standardized ones."""
        matrix = weights.matrix / self.deviation[:, np.newaxis]
        return Weights(matrix, weights.bias - self.mean @ matrix)

    def described(self) -> dict[str, list[float]]:
        """Return `mean` and `deviation` for a JSON file, of which an app makes its features."""
        return {name: values.tolist() for name, values in self._asdict().items()}
