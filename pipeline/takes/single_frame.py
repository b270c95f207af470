"""Finds one frame by its name."""

from pipeline.errors import InputError
from pipeline.files import layout
from pipeline.takes.tables import read_parquet, read_rows_at


def read_frame(take: str, frame_id: str) -> tuple[bytes, float | None]:
    """Return a frame as JPEG, and when in its take it is in seconds (None for a photo).

    Args:
        take: "<label>/<take>".
        frame_id: As in the take's table.

    Raises:
        InputError: If there is no such take or frame.
    """
    path = layout.FRAMES / f"{take}.parquet"
    names = read_parquet(path, ["frame_id"])["frame_id"].to_pylist()
    if frame_id not in names:
        raise InputError(
            found=f"no frame {frame_id} in {path}",
            expected="the frames that the predictions in plots/evaluation are about",
            remedy="run `dvc repro`",
        )
    (row,) = read_rows_at(path, [names.index(frame_id)], ["image", "pts_seconds"]).to_pylist()
    return row["image"], row["pts_seconds"]


def number_of(frame_id: str) -> int:
    """Return the place of a frame in its take, from 0: among the photos of a folder, by name."""
    return int(frame_id.rpartition("-")[2])
