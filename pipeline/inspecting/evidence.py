"""All that inspection looks at, a row a frame: statistics, bottlenecks, and what heads without the take say."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.takes.rows import Rows
from pipeline.takes.tables import read_parquet


@dataclass(frozen=True)
class Evidence:
    """What is known of each frame.

    Attributes:
        table: A row a frame with the columns take ("<label>/<take>"), label, part, frame_id, brightness, contrast,
            sharpness, motion (NaN for the first frame of a take) and hash (eight bytes).
        features: float32 [num_frames, feature_length], bottlenecks of the float32 backbone.
        probabilities: float32 [num_frames, num_labels], of heads that were trained without the take; NaN for frames
            that were never held out.
        labels: In the order of the probabilities.
    """

    table: pd.DataFrame
    features: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32]
    labels: tuple[str, ...]

    @property
    def is_held_out(self) -> npt.NDArray[np.bool_]:
        """Tell which frames a head without their take has answered, bool [num_frames]."""
        found: npt.NDArray[np.bool_] = ~np.isnan(self.probabilities[:, 0])
        return found

    @property
    def is_right(self) -> npt.NDArray[np.bool_]:
        """Tell which frames got their label, bool [num_frames]; False where nobody answered."""
        actual = np.array([self.labels.index(label) for label in self.table["label"]])
        found: npt.NDArray[np.bool_] = self.is_held_out & (np.nan_to_num(self.probabilities).argmax(1) == actual)
        return found


def gather(rows: Rows, statistics: Path, said: pd.DataFrame, probabilities: npt.NDArray[np.float32]) -> Evidence:
    """Bring together what stages have found.

    Args:
        rows: Bottlenecks, augmented copies among them.
        statistics: The folder with the tables of `statistics_of_take`.
        said: A row for each frame that was held out: frame_id and take.
        probabilities: float32 [len(said), num_labels].
    """
    frames = rows.only(rows.are_frames)
    units = [frames.units[index] for index in frames.unit_indices]
    table = pd.DataFrame(
        {
            "take": [unit.take for unit in units],
            "label": [unit.label for unit in units],
            "part": [unit.part for unit in units],
            "frame_id": frames.frame_ids,
        }
    )
    measured = _statistics(statistics, table["take"].unique().tolist())
    table = table.merge(measured, on=["take", "frame_id"], how="left", validate="one_to_one")
    answers = np.full((len(table), len(rows.labels)), np.nan, np.float32)
    places = pd.MultiIndex.from_frame(table[["take", "frame_id"]])
    answers[places.get_indexer(pd.MultiIndex.from_frame(said[["take", "frame_id"]]))] = probabilities
    return Evidence(table, frames.features, answers, rows.labels)


def _statistics(folder: Path, takes: Sequence[str]) -> pd.DataFrame:
    tables = [read_parquet(folder / f"{take}.parquet").to_pandas().assign(take=take) for take in takes]
    found: pd.DataFrame = pd.concat(tables, ignore_index=True)
    return found
