"""Reads the table of predictions that the stage `evaluate` writes."""

from pathlib import Path

import pandas as pd

from pipeline.errors import InputError

_TEXTS = ("frame_id", "take", "actual", "predicted")


def read_predictions(path: Path) -> pd.DataFrame:
    """Read predictions; names stay texts, even `None`, `NA` and `007`.

    Args:
        path: A file that `Predictions.table` was written to.

    Returns:
        A row a test frame: frame_id, take ("<label>/<take>"), actual, predicted, probability (of what was predicted,
        0..1) and is_right (bool).

    Raises:
        InputError: If the file is missing or no such table.
    """
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(_TEXTS, str), keep_default_na=False)
        return table[[*_TEXTS, "probability", "is_right"]].astype({"probability": float, "is_right": bool})
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            found=f"{path} cannot be read ({error})",
            expected="the table that the stage `evaluate` writes",
            remedy="run `dvc repro`",
        ) from error
