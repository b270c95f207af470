"""How far a difference between two models may be chance: the frames of a take stand or fall together."""

import numpy as np
import pandas as pd

NUM_RESAMPLES = 2000
LEVEL_PERCENT = 95

_SEED = 0


def accuracy_difference_interval(reference: pd.DataFrame, other: pd.DataFrame) -> tuple[float, float] | None:
    """Return between what lies the difference in accuracy, `other` minus `reference`, with a confidence of 95%.

    A paired bootstrap over takes (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13): takes are
    drawn again and again, as many as there are, with all their frames. Frames of one take are near-copies; drawn one by
    one they would promise more than they tell.

    Args:
        reference: What the stage `evaluate` writes: `take`, `frame_id` and `is_right` of each test frame.
        other: The same of another model.

    Returns:
        Lower and upper end as shares, -1..1; None if they were not scored on the same frames, or on one take only.
    """
    key = ["take", "frame_id"]
    both = reference.merge(other, on=key, suffixes=("_reference", "_other"), validate="one_to_one")
    if len(both) != len(reference) or len(both) != len(other):
        return None
    gained = both["is_right_other"].astype(int) - both["is_right_reference"].astype(int)
    of_takes = gained.groupby(both["take"]).agg(["sum", "count"]).to_numpy()
    if len(of_takes) < 2:
        return None
    drawn = np.random.default_rng(_SEED).integers(len(of_takes), size=(NUM_RESAMPLES, len(of_takes)))
    sums, counts = np.moveaxis(of_takes[drawn].sum(axis=1), 1, 0)
    tail = (100 - LEVEL_PERCENT) / 2
    low, high = np.percentile(sums / counts, [tail, 100 - tail])
    return float(low), float(high)
