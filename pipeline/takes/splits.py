"""The split file: which take, or which block of a take, belongs to which part."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.files import write_text

TRAIN, VALIDATION, TEST = PARTS = ("train", "validation", "test")

# The folder of what is none of the labels, in data/videos and data/photos. It is no label, and its takes are never for
# testing from pixels: cross-validation holds them out.
NONE = "_none"

# What data sets of others call the folders of their parts.
FOLDERS_OF_PARTS = ("train", "training", "val", "valid", "validation", "test", "testing")


@dataclass(frozen=True)
class Block:
    """A row of data/splits.csv: a stretch of a take, mostly all of it.

    Attributes:
        label: Folder name under data/videos or data/photos.
        take: File or folder name, which is unique within the label.
        path: Where the take lies, relative to the project's folder.
        sha256: Hash of the take's content.
        part: `train`, `validation` or `test`.
        start: Where the block begins, as a fraction of the take's frames, 0..1.
        end: Where it ends, exclusive.
    """

    label: str
    take: str
    path: str
    sha256: str
    part: str
    start: float
    end: float

    @property
    def name(self) -> str:
        """Return the take's name as people know it."""
        return f"{self.label}/{self.take}"

    @property
    def is_whole(self) -> bool:
        """Tell whether it is a whole take."""
        return (self.start, self.end) == (0.0, 1.0)


_COLUMNS = [field.name for field in fields(Block)]


@dataclass(frozen=True)
class Take:
    """A take with its blocks."""

    label: str
    name: str
    path: Path
    sha256: str
    blocks: tuple[Block, ...]

    @property
    def shows_a_label(self) -> bool:
        """Tell whether it shows a label, and not what is none of them."""
        return self.label != NONE

    @property
    def full_name(self) -> str:
        """Return the take's name as people know it, "<label>/<take>"."""
        return f"{self.label}/{self.name}"

    @property
    def table(self) -> Path:
        """Return the take's Parquet file, relative to the output folder of whichever stage wrote it."""
        return Path(self.label) / f"{self.name}.parquet"

    def has_part(self, *parts: str) -> bool:
        """Tell whether any of the take's frames belong to one of these parts."""
        return any(block.part in parts for block in self.blocks)

    def indices_of_parts(self, num_frames: int) -> npt.NDArray[np.int64]:
        """Return which of the take's frames belong to any part: all but those in the gaps between blocks."""
        return np.unique(np.concatenate([indices_of_block(block, num_frames) for block in self.blocks]))

    def indices_of_part(self, part: str, num_frames: int) -> npt.NDArray[np.int64]:
        """Return which of the take's frames belong to a part: those whose middle lies in one of its blocks.

        Returns:
            int64 [num_indices], ascending; also if there are none.
        """
        found = [indices_of_block(block, num_frames) for block in self.blocks if block.part == part]
        return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)


def indices_of_block(block: Block, num_frames: int) -> npt.NDArray[np.int64]:
    """Return which of a take's frames lie in a block, int64 [num_indices], ascending."""
    middles = (np.arange(num_frames) + 0.5) / max(num_frames, 1)
    return np.flatnonzero((block.start <= middles) & (middles < block.end)).astype(np.int64, copy=False)


def write_splits(path: Path, blocks: Sequence[Block]) -> None:
    """Write the split file, sorted by label, take and start."""
    ordered = sorted(blocks, key=lambda block: (block.label, block.take, block.start))
    table = io.StringIO()
    writer = csv.DictWriter(table, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(block) for block in ordered)
    write_text(path, table.getvalue())


def read_takes(path: Path) -> list[Take]:
    """Read the split file and gather the blocks of each take, in the file's order.

    Raises:
        InputError: If the file is missing or was changed by hand into something else.
    """
    try:
        blocks = _read_blocks(path)
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise InputError(
            found=f"{path} cannot be read ({error})",
            expected="the table that the stage `split` writes",
            remedy="run `dvc repro split`",
        ) from error
    takes: dict[tuple[str, str], list[Block]] = {}
    for block in blocks:
        takes.setdefault((block.label, block.take), []).append(block)
    return [
        Take(label, take, Path(group[0].path), group[0].sha256, tuple(group)) for (label, take), group in takes.items()
    ]


def _read_blocks(path: Path) -> list[Block]:
    """Read the rows with the standard library: importing pandas would take longer than a stage with nothing to do."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        if reader.fieldnames != _COLUMNS:
            raise ValueError(f"its columns are {reader.fieldnames}")
        return [_block(row) for row in reader]


def _block(row: dict[str, Any]) -> Block:
    return Block(**row | {"start": float(row["start"]), "end": float(row["end"])})


def labels_of(takes: Sequence[Take]) -> list[str]:
    """Return the labels in the order of the model's output: sorted by code point, without `NONE`."""
    return sorted({take.label for take in takes if take.shows_a_label})
