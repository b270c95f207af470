"""A head with how it came about."""

from dataclasses import dataclass

import pandas as pd

from pipeline.heads.head_file import Head


@dataclass(frozen=True)
class TrainedHead:
    """What training gives.

    Attributes:
        head: The head.
        curves: How it came about: for `lbfgs` a row for each strength of regularization (see `choosing.Choice.path`),
            for `adamw` a row for each look: step, train_loss, train_accuracy.
        summary: The same in a few words.
        strength: Of the regularization; None if it was trained in steps.
    """

    head: Head
    curves: pd.DataFrame
    summary: str
    strength: float | None = None
