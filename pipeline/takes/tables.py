"""The tables that takes are stored in: one Parquet file a take, one row a frame. Schemas are written here only.

A take of an hour has more frames than memory should hold, so tables are written and read in groups of 64 rows.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.files import chunks_of

ROWS_PER_GROUP = 64

# frame_id does not hold the take's or the label's name, so that renaming changes no table. pts_seconds counts from the
# take's first frame and is null for photos. image is an encoded JPEG.
FRAMES = pa.schema([("frame_id", pa.string()), ("pts_seconds", pa.float64()), ("image", pa.binary())])

# copy counts from 1 for augmented frames and is 0 for the frame itself.
AUGMENTED = pa.schema(
    [("frame_id", pa.string()), ("copy", pa.int16()), ("pts_seconds", pa.float64()), ("image", pa.binary())]
)

# What each frame measures: brightness and contrast 0..255, sharpness, hash of eight bytes, and motion, null for a
# take's first frame (see per_take.statistics).
STATISTICS = pa.schema(
    [
        ("frame_id", pa.string()),
        ("brightness", pa.float64()),
        ("contrast", pa.float64()),
        ("sharpness", pa.float64()),
        ("hash", pa.binary(8)),
        ("motion", pa.float64()),
    ]
)


def bottlenecks_schema(feature_length: int) -> pa.Schema:
    """Return the schema of bottlenecks: a row for each row of frames or augmented frames, with its feature vector."""
    return pa.schema(
        [
            ("frame_id", pa.string()),
            ("copy", pa.int16()),
            ("pts_seconds", pa.float64()),
            ("feature", pa.list_(pa.float32(), feature_length)),
        ]
    )


def reader_of(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.RecordBatchReader:
    """Return rows as a table that is made while it is read, group by group."""
    waiting = iter(rows)
    groups = iter(lambda: list(islice(waiting, ROWS_PER_GROUP)), [])
    return pa.RecordBatchReader.from_batches(schema, (pa.RecordBatch.from_pylist(group, schema) for group in groups))


def write_parquet(table: pa.RecordBatchReader, sink: Path | BinaryIO) -> None:
    """Write a table while it is read; equal rows, in batches of `ROWS_PER_GROUP`, give equal bytes.

    Nothing is compressed: JPEG files and float features hardly shrink, and DVC and the reader gain speed.

    Raises:
        Exception: Whatever making the rows raises. Then the file is not whole.
    """
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    with pq.ParquetWriter(sink, table.schema, **options) as writer:
        for batch in table:
            writer.write_batch(batch)


def to_parquet(table: pa.Table) -> bytes:
    """Encode a table that memory holds, as `write_parquet` writes it."""
    sink = io.BytesIO()
    write_parquet(table.combine_chunks().to_reader(ROWS_PER_GROUP), sink)
    return sink.getvalue()


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a table, or some of its columns.

    Raises:
        InputError: If the file is missing or no whole Parquet file.
    """
    with _telling_unreadable(path), pq.ParquetFile(path) as file:  # pq.read_table would import for a third of a second
        table: pa.Table = file.read(columns=columns)
        return table


def read_groups(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Read a table, or some of its columns, group by group.

    Raises:
        InputError: If the file is missing or no whole Parquet file.
    """
    with _telling_unreadable(path), path.open("rb") as file:
        yield from _groups(file, columns)


def read_unchanged(path: Path, sha256: str) -> Iterator[dict[str, Any]]:
    """Read a table row by row, and make sure that it is the very one that a result is keyed by.

    Args:
        path: The table.
        sha256: Hash of its content when the key was made.

    Yields:
        Each row, values by column.

    Raises:
        InputError: If the file is missing, no whole Parquet file, or another one; before the first row.
    """
    with _telling_unreadable(path), path.open("rb") as file:  # one file, whatever takes its name meanwhile
        digest = hashlib.sha256()
        for chunk in chunks_of(file):
            digest.update(chunk)
        if digest.hexdigest() != sha256:
            raise InputError(
                found=f"{path} has changed while the stage ran",
                expected="the table that was there when the stage began",
                remedy="run `dvc repro` again",
            )
        for group in _groups(file, None):
            yield from group.to_pylist()


def read_rows_at(path: Path, indices: Sequence[int], columns: Sequence[str]) -> pa.Table:
    """Read some rows of a table, and no group that holds none of them.

    Args:
        path: The table.
        indices: Of rows, from 0, ascending.
        columns: Their names.

    Raises:
        InputError: If the file is missing or no whole Parquet file.
    """
    wanted = np.asarray(indices, np.int64)
    with _telling_unreadable(path), pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        ends = np.cumsum(sizes, dtype=np.int64)
        found = [file.schema_arrow.empty_table().select(columns)]
        for group in np.unique(np.searchsorted(ends, wanted, side="right")).tolist():
            start = int(ends[group]) - sizes[group]
            inside = wanted[(wanted >= start) & (wanted < ends[group])] - start
            found.append(file.read_row_group(group, columns).take(inside))
        return pa.concat_tables(found)


def vectors_of(table: pa.Table) -> npt.NDArray[np.float32]:
    """Return the feature vectors of a table of bottlenecks, float32 [num_rows, feature_length]."""
    column = table["feature"].combine_chunks()
    flat: npt.NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), column.type.list_size)


def feature_length_of(path: Path) -> int:
    """Return how long the feature vectors of a table of bottlenecks are; raises what `read_parquet` raises."""
    with _telling_unreadable(path):
        return int(pq.read_schema(path).field("feature").type.list_size)


def num_rows_of(path: Path) -> int:
    """Return how many rows a table has, without reading them; raises what `read_parquet` raises."""
    with _telling_unreadable(path):
        return int(pq.read_metadata(path).num_rows)


def _groups(file: BinaryIO, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """Yield the groups of rows of an open table; a closed group leaves memory."""
    with pq.ParquetFile(file) as table:
        for group in range(table.num_row_groups):
            yield from table.read_row_group(group, columns).to_batches()


@contextmanager
def _telling_unreadable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            found=f"{path} cannot be read ({error})",
            expected="a Parquet file written by an earlier stage",
            remedy="run `dvc repro`, or `dvc checkout` if the file was changed by hand",
        ) from error
