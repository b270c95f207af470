"""The bottlenecks of all takes as rows, each with the unit that it stands or falls with.

A unit is what is held out as a whole: a take, or a block of a take that is cut. Frames of one unit are near-copies, so
they never face each other across a fold.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.files.layout import STRANGERS
from pipeline.takes.splits import NONE, TEST, TRAIN, Block, Take, indices_of_block, labels_of
from pipeline.takes.tables import feature_length_of, num_rows_of, read_parquet, vectors_of

Features = npt.NDArray[np.float32]
Copies = npt.NDArray[np.int64]
FrameIds = npt.NDArray[np.object_]

# Of the features that are held in memory: beyond it frames are thinned out evenly in time, copies with them. 46,000
# frames of 1,280 features, or a third as many with two copies each, are below it.
MAX_BYTES = 240_000_000

STRANGERS_TABLE = "strangers.parquet"  # in a scheme's folder of bottlenecks: those of the pictures in data/strangers

_KINDS = ("frames", "augmented")
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Unit:
    """What is held out as a whole.

    Attributes:
        label: What it shows; `NONE` for what is none of the labels.
        take: "<label>/<take>", or the path of one of the pictures in data/strangers.
        part: `train`, `validation` or `test`, as in the split file.
        is_whole: Whether it is a whole take.
    """

    label: str
    take: str
    part: str
    is_whole: bool

    @property
    def is_stranger(self) -> bool:
        """Tell whether it is one of the pictures in data/strangers, and not a take."""
        return self.label == NONE and self.take.startswith(f"{STRANGERS.as_posix()}/")

    @property
    def may_be_held_out(self) -> bool:
        """Tell whether there is enough without it: of a take that is cut, the train block always stays."""
        return self.is_whole or self.part != TRAIN


@dataclass(frozen=True)
class Rows:
    """Labelled bottlenecks.

    Attributes:
        features: float32 [num_rows, feature_length].
        label_indices: int64 [num_rows], indices into `labels`; as many as there are labels means none of them.
        unit_indices: int64 [num_rows], indices into `units`.
        copies: int64 [num_rows]; 0 is a frame itself, augmented copies count from 1.
        frame_ids: [num_rows] names of the frames, which copies share.
        labels: In the order of the model's output.
        units: In the order of the split file.
    """

    features: Features
    label_indices: npt.NDArray[np.int64]
    unit_indices: npt.NDArray[np.int64]
    copies: Copies
    frame_ids: FrameIds
    labels: tuple[str, ...]
    units: tuple[Unit, ...]

    def __len__(self) -> int:
        return len(self.label_indices)

    @property
    def have_others(self) -> bool:
        """Tell whether some of the units are none of the labels."""
        return any(unit.label == NONE for unit in self.units)

    @property
    def num_outputs(self) -> int:
        """Return how many logits a head has that is trained on them: one more if something is none of the labels."""
        return len(self.labels) + self.have_others

    def only(self, mask: npt.NDArray[np.bool_]) -> "Rows":
        """Return some of the rows; labels and units keep their indices."""
        return Rows(
            self.features[mask],
            self.label_indices[mask],
            self.unit_indices[mask],
            self.copies[mask],
            self.frame_ids[mask],
            self.labels,
            self.units,
        )

    def sha256(self) -> str:
        """Return the hash of all that they hold, as 64 hexadecimal digits."""
        told = json.dumps([self.labels, [asdict(unit) for unit in self.units]])
        digest = hashlib.sha256("\n".join([told, *self.frame_ids]).encode())
        for array in (self.features, self.label_indices, self.unit_indices, self.copies):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def of_units(self, chosen: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Tell which rows belong to some units, bool [num_rows]."""
        return np.isin(self.unit_indices, chosen)

    @property
    def are_frames(self) -> npt.NDArray[np.bool_]:
        """Tell which rows are frames themselves, bool [num_rows]."""
        is_frame: npt.NDArray[np.bool_] = self.copies == 0
        return is_frame

    @property
    def are_of_labels(self) -> npt.NDArray[np.bool_]:
        """Tell which rows show a label, bool [num_rows]."""
        shows_a_label: npt.NDArray[np.bool_] = self.label_indices < len(self.labels)
        return shows_a_label

    @property
    def are_for_training(self) -> npt.NDArray[np.bool_]:
        """Tell which rows do not belong to the test part, bool [num_rows]."""
        is_free: npt.NDArray[np.bool_] = np.array([unit.part != TEST for unit in self.units])[self.unit_indices]
        return is_free


def read_rows(
    folder: Path, takes: Sequence[Take], max_bytes: int = MAX_BYTES, *, strangers: Path | None = None
) -> Rows:
    """Read the bottlenecks of all frames that belong to a part, and of their copies, in the order of the split file.

    Args:
        folder: A scheme's bottlenecks.
        takes: All takes.
        max_bytes: Of features that are held; beyond it every second, third, ... frame of each take is kept.
        strangers: Where the pictures of other things lie. Behind the labels' takes then come those that are none of
            the labels, and each of these pictures as a unit of its own. None leaves both out.

    Raises:
        InputError: If a table is missing or damaged, or a label has no frame to train on.
    """
    stride = _stride(folder, takes, max_bytes)
    labels = labels_of(takes)
    number_of = {label: number for number, label in enumerate([*labels, NONE])}
    used = [take for take in takes if take.shows_a_label]
    used += [take for take in takes if not take.shows_a_label] if strangers else []
    units = [_unit(take, block) for take in used for block in take.blocks]
    blocks = [block for take in used for block in _rows_of_blocks(folder, take, stride)]
    if strangers:
        names, pictures = _pictures(folder / STRANGERS_TABLE)
        units += [Unit(NONE, (strangers / name).as_posix(), TRAIN, is_whole=True) for name in names]
        blocks += pictures
    columns = [
        (*rows, np.full(len(rows[0]), number_of[units[index].label]), np.full(len(rows[0]), index))
        for index, rows in enumerate(blocks)
    ]
    features, copies, frame_ids, label_indices, unit_indices = (
        np.concatenate(column) for column in zip(*columns, strict=True)
    )
    rows = Rows(features, label_indices, unit_indices, copies, frame_ids, tuple(labels), tuple(units))
    refuse_absent_labels(rows)
    return rows


def _unit(take: Take, block: Block) -> Unit:
    return Unit(take.label, block.name, block.part, is_whole=block.is_whole)


def _stride(folder: Path, takes: Sequence[Take], max_bytes: int) -> int:
    """Return how many frames of a take one is kept of."""
    paths = [folder / kind / take.table for take in takes for kind in _KINDS]
    feature_length = max((feature_length_of(path) for path in paths[:1]), default=1)
    num_bytes = sum(map(num_rows_of, paths)) * feature_length * _FLOAT_BYTES
    return max(1, math.ceil(num_bytes / max_bytes))


def _rows_of_blocks(folder: Path, take: Take, stride: int) -> Iterator[tuple[Features, Copies, FrameIds]]:
    """Yield features, copy numbers and frame names of each block: its frames, then their copies."""
    tables = [read_parquet(folder / kind / take.table, ["frame_id", "copy", "feature"]) for kind in _KINDS]
    ids, vectors = [table["frame_id"].to_numpy() for table in tables], [vectors_of(table) for table in tables]
    copies = [table["copy"].to_numpy().astype(np.int64) for table in tables]
    for block in take.blocks:
        kept = ids[0][indices_of_block(block, len(ids[0]))[::stride]]
        masks = [np.isin(names, kept) for names in ids]
        yield (
            np.concatenate([array[mask] for array, mask in zip(vectors, masks, strict=True)]),
            np.concatenate([array[mask] for array, mask in zip(copies, masks, strict=True)]),
            np.concatenate([array[mask] for array, mask in zip(ids, masks, strict=True)]),
        )


def _pictures(path: Path) -> tuple[list[str], list[tuple[Features, Copies, FrameIds]]]:
    """Return the name of each picture of a table of bottlenecks, and a block with it alone."""
    table = read_parquet(path, ["frame_id", "copy", "feature"])
    names, copies, vectors = table["frame_id"].to_numpy(), table["copy"].to_numpy().astype(np.int64), vectors_of(table)
    each = range(len(names))
    return names.tolist(), [(vectors[[i]], copies[[i]], names[[i]]) for i in each]


def refuse_absent_labels(rows: Rows) -> None:
    """Raise InputError if a label has no frame at all, or none but test frames."""
    for index, label in enumerate(rows.labels):
        if not (rows.are_for_training & (rows.label_indices == index)).any():
            raise InputError(
                found=f"label '{label}' without a single frame to train on",
                expected="frames of each label to train on",
                remedy="add takes, and run `dvc repro`: the stage `frames` tells which label lacks which part",
            )
