"""Labelled rows to tune a part of a backbone on, as many as the disk holds."""

import math
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.files.os_errors import telling_full_disk
from pipeline.takes.splits import TRAIN, Take
from pipeline.takes.tables import read_parquet, vectors_of

Labelled = tuple[str, npt.NDArray[Any]]  # a label, and rows that carry it


class FeatureFile:
    """Rows of one shape and type in a file without a name, of which memory holds only those that are asked for.

    100,000 frames with two copies each are 1.5 GB of bottlenecks. They are read with `pread` and not mapped: mapped
    pages count as the process's own memory as soon as they were touched. The file is gone when the process ends,
    however.

    Attributes:
        shape: Number of rows, and the shape of each.
        dtype: Of the rows; float32 as long as there are none.
    """

    def __init__(self, folder: Path) -> None:
        """Make an empty file on the disk that a folder lies on."""
        self.shape: tuple[int, ...] = (0, 0)
        self.dtype: np.dtype[Any] = np.dtype(np.float32)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as this
        weakref.finalize(self, self._file.close)

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Write more rows, [num, ...] of the same shape and type, behind the others."""
        self._file.write(np.ascontiguousarray(rows).data)
        self._file.flush()
        self.shape, self.dtype = (self.shape[0] + len(rows), *rows.shape[1:]), rows.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: npt.NDArray[np.integer] | slice) -> npt.NDArray[Any]:
        """Read some rows: a slice, or indices [num], 0 and up, in any order; [num, ...]."""
        if isinstance(indices, slice):
            indices = np.arange(*indices.indices(len(self)))
        num_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        rows = [os.pread(self._file.fileno(), num_bytes, index * num_bytes) for index in indices.tolist()]
        return np.frombuffer(bytearray().join(rows), self.dtype).reshape(len(rows), *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Read all rows; NumPy calls this."""
        return self[:].astype(dtype or self.dtype, copy=False)


@dataclass(frozen=True)
class Examples:
    """Rows with their labels.

    Attributes:
        features: Rows of any type and shape, [num_examples, ...].
        label_indices: int64 [num_examples], indices into the labels.
    """

    features: npt.NDArray[Any] | FeatureFile
    label_indices: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label_indices)


def examples_on_disk(tables: Iterable[Labelled], labels: list[str], folder: Path) -> Examples:
    """Gather rows that may be more than memory holds.

    Args:
        tables: Rows [num_rows, ...] with their label, all of one type and of one shape behind the first axis.
        labels: Label names in the order of the logits.
        folder: Where there is room for them.

    Returns:
        The examples in the tables' order, in a file without a name.

    Raises:
        InputError: If there is no row at all.
        FullDiskError: If the disk is full.
    """
    features, label_indices = FeatureFile(folder), [np.zeros(0, np.int64)]
    with telling_full_disk(folder):
        for label, rows in tables:
            features.append(rows)
            label_indices.append(np.full(len(rows), labels.index(label)))
    if not len(features):
        raise InputError(
            found="a part without a single frame",
            expected="frames of each label to train on and to validate on",
            remedy="add takes, and run `dvc repro`: the stage `frames` tells which label lacks which part",
        )
    return Examples(features, np.concatenate(label_indices))


def tables_of_part(folder: Path, takes: list[Take], part: str) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Yield the label and the feature vectors, float32 [num_rows, feature_length], of each table of a part.

    Args:
        folder: Bottlenecks, or what a part of a backbone makes of frames.
        takes: All takes.
        part: `train` gives frames and their augmented copies, others give frames.
    """
    columns = ["frame_id", "feature"]
    for take in (take for take in takes if take.has_part(part)):
        frames = read_parquet(folder / "frames" / take.table, columns)
        yield take.label, vectors_of(frames)[take.indices_of_part(part, len(frames))]
        if part == TRAIN:
            copies = read_parquet(folder / "augmented" / take.table, columns)
            yield take.label, vectors_of(copies)[are_copies_of_part(take, part, frames, copies)]


def are_copies_of_part(take: Take, part: str, frames: pa.Table, copies: pa.Table) -> npt.NDArray[np.bool_]:
    """Tell which copies are of frames that belong to a part, bool [num_copies]; by `frame_id` of both tables."""
    names = frames["frame_id"].to_numpy()[take.indices_of_part(part, len(frames))]
    return np.isin(copies["frame_id"].to_numpy(), names)
