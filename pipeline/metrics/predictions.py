"""Reads the tables of predictions that the stages `crossval` and `evaluate` write."""

from pathlib import Path

import pandas as pd

from pipeline.errors import InputError
from pipeline.files import layout

_TEXTS = ("frame_id", "take", "actual", "predicted")
COLUMNS = (*_TEXTS, "probability", "is_right")


def read_predictions(path: Path) -> pd.DataFrame:
    """Read predictions; names stay texts, even `None`, `NA` and `007`.

    Args:
        path: A file that `Predictions.table` was written to.

    Returns:
        A row a frame: frame_id, take ("<label>/<take>"), actual, predicted, probability (of what was predicted,
        0..1) and is_right (bool).

    Raises:
        InputError: If the file is missing or no such table.
    """
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(_TEXTS, str), keep_default_na=False)
        return table[list(COLUMNS)].astype({"probability": float, "is_right": bool})
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            found=f"{path} cannot be read ({error})",
            expected="the table that the stages `crossval` and `evaluate` write",
            remedy="run `dvc repro`",
        ) from error


def read_scored(scheme: str) -> pd.DataFrame:
    """Read the predictions that a scheme's figures are of: cross-validation's, or where it has none the test takes'.

    Raises:
        InputError: See `read_predictions`.
    """
    found = read_predictions(layout.crossval_predictions(scheme))
    return found if len(found) else read_predictions(layout.predictions(scheme))
