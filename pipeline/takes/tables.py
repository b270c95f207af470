"""The tables that takes are stored in: one Parquet file a take, one row a frame. Schemas are written here only."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.files import sha256_of_bytes

# frame_id does not hold the take's or the label's name, so that renaming changes no table. pts_seconds counts from the
# take's first frame and is null for photos. image is an encoded JPEG.
FRAMES = pa.schema([("frame_id", pa.string()), ("pts_seconds", pa.float64()), ("image", pa.binary())])

# copy counts from 1 for augmented frames and is 0 for the frame itself.
AUGMENTED = pa.schema(
    [("frame_id", pa.string()), ("copy", pa.int16()), ("pts_seconds", pa.float64()), ("image", pa.binary())]
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


def to_parquet(table: pa.Table) -> bytes:
    """Encode a table; equal tables give equal bytes.

    Nothing is compressed: JPEG files and float features hardly shrink, and DVC and the reader gain speed.
    """
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="none", use_dictionary=False, write_statistics=False)
    return sink.getvalue()


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a table, or some of its columns.

    Raises:
        InputError: If the file is missing or no whole Parquet file.
    """
    with _telling_unreadable(path), pq.ParquetFile(path) as file:  # pq.read_table would import for a third of a second
        table: pa.Table = file.read(columns=columns)
        return table


def read_unchanged(path: Path, sha256: str) -> pa.Table:
    """Read a table, and make sure that it is the very one that a result is keyed by.

    Args:
        path: The table.
        sha256: Hash of its content when the key was made.

    Raises:
        InputError: If the file is missing, no whole Parquet file, or another one.
    """
    with _telling_unreadable(path):
        content = path.read_bytes()
        if sha256_of_bytes(content) != sha256:
            raise InputError(
                found=f"{path} has changed while the stage ran",
                expected="the table that was there when the stage began",
                remedy="run `dvc repro` again",
            )
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            table: pa.Table = file.read()
            return table


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
