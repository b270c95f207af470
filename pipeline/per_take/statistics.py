"""Measures each frame of a take: how light and how sharp it is, and marks by which a copy is known again."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from pipeline.images.codec import decode_jpeg
from pipeline.processes.workers import map_frames
from pipeline.takes.tables import STATISTICS, read_unchanged, reader_of

_SHARPNESS_WIDTH_PIXELS = 256
_TINY_PIXELS = 32
_HASH_SIZE = (9, 8)  # columns and rows: eight differences in each of eight rows

Grey = npt.NDArray[np.float32]


def statistics_of_take(source: Path, sha256: str) -> pa.RecordBatchReader:
    """Measure a take's frames.

    Args:
        source: A table with the schema `FRAMES`.
        sha256: Hash of its content.

    Returns:
        A table with the schema `STATISTICS`, in the same order. Reading it measures them.
    """
    rows = []
    before: Grey | None = None
    for frame_id, found, tiny in map_frames(_measured, read_unchanged(source, sha256)):
        moved = None if before is None else float(np.abs(tiny - before).mean())
        rows.append({"frame_id": frame_id, **found, "motion": moved})
        before = tiny
    return reader_of(rows, STATISTICS)


def _measured(frame: dict[str, Any]) -> tuple[str, dict[str, Any], Grey]:
    found, tiny = measure_frame(decode_jpeg(frame["image"]))
    return frame["frame_id"], found, tiny


def measure_frame(rgb: npt.NDArray[np.uint8]) -> tuple[dict[str, Any], Grey]:
    """Measure one frame.

    Sharpness is the variance of the Laplacian (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy",
    ICPR 2000), at one width for all. The hash is the difference hash: a bit for each step from one cell to the next of
    a grid of nine times eight that rises.

    Args:
        rgb: uint8 [height, width, 3], 0..255.

    Returns:
        brightness and contrast (mean and standard deviation of grey, 0..255), sharpness, hash (eight bytes); and the
        frame in grey, float32 [32, 32].
    """
    picture = Image.fromarray(rgb).convert("L")
    height = max(3, round(picture.height * _SHARPNESS_WIDTH_PIXELS / picture.width))
    grey = _scaled(picture, _SHARPNESS_WIDTH_PIXELS, height)
    laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    cells = _scaled(picture, *_HASH_SIZE)
    found = {
        "brightness": float(grey.mean()),
        "contrast": float(grey.std()),
        "sharpness": float(laplacian.var()),
        "hash": np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(),
    }
    return found, _scaled(picture, _TINY_PIXELS, _TINY_PIXELS)


def _scaled(picture: Image.Image, width: int, height: int) -> Grey:
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX), np.float32)
