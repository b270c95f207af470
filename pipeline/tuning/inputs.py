"""What the tuned part of a backbone learns from: pictures, or what the frozen part makes of them. Kept on disk.

The augmented copies are made before, so a frame's way through the frozen part is the same in every epoch. It is
computed once, in LiteRT, and kept in the take cache like any bottlenecks: epochs only cost what they change.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.config.finetune import FinetuneStage
from pipeline.files import layout
from pipeline.images.codec import decode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.per_take.bottlenecks import FeatureExtractor
from pipeline.per_take.feature_jobs import feature_jobs
from pipeline.processes.workers import num_workers
from pipeline.takes.cache import project_cache
from pipeline.takes.engines import engine_of
from pipeline.takes.examples import Examples, are_copies_of_part, examples_on_disk, tables_of_part
from pipeline.takes.runner import map_takes
from pipeline.takes.splits import TRAIN, VALIDATION, Take, labels_of
from pipeline.takes.tables import read_parquet, read_rows_at

_NUM_AT_ONCE = 64  # pictures that are decoded before they are written


def extract(backbone: bytes, takes: list[Take], config: FinetuneStage, folder: Path, *, title: str) -> None:
    """Fill a folder with what a backbone, or its frozen part, makes of all frames that are trained or validated on.

    Args:
        backbone: A .tflite file; the very bytes are part of the take cache's key.
        takes: All takes.
        config: How frames become inputs, and where takes are computed.
        folder: Gets frames/<label>/<take>.parquet and augmented/<label>/<take>.parquet.
        title: For the progress bar.

    Raises:
        PipelineError: If a table is missing or damaged, or the disk is full.
    """
    used = [take for take in takes if take.has_part(TRAIN, VALIDATION)]
    jobs = feature_jobs(used, FeatureExtractor(backbone, config.resize))
    map_takes(jobs, folder, stage=title, engine=engine_of(config.engine), cache=project_cache())


def frozen_features(folder: Path, takes: list[Take], part: str, shape: tuple[int, ...]) -> Examples:
    """Gather what `extract` made with the frozen part.

    Args:
        folder: What `extract` filled.
        takes: All takes.
        part: `train` gives frames and their augmented copies, `validation` gives frames.
        shape: Of the boundary between frozen and tuned part, without the batch.

    Returns:
        Examples with features float32 [num_examples, *shape].
    """
    tables = ((label, rows.reshape(-1, *shape)) for label, rows in tables_of_part(folder, takes, part))
    return examples_on_disk(tables, labels_of(takes), folder.parent)


def pictures(takes: list[Take], part: str, input_pixels: int, resize: str, folder: Path) -> Examples:
    """Gather model inputs, for a backbone that is tuned as a whole.

    Returns:
        Examples with features uint8 [num_examples, input_pixels, input_pixels, 3], 0..255; order and part as in
        `frozen_features`.
    """
    return examples_on_disk(_decoded(takes, part, input_pixels, resize), labels_of(takes), folder)


def _decoded(
    takes: list[Take], part: str, input_pixels: int, resize: str
) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """Yield a label and some pictures, uint8 [n, input_pixels, input_pixels, 3], as often as it takes."""

    def decode(image: bytes) -> npt.NDArray[np.uint8]:
        return to_model_input(decode_jpeg(image), input_pixels, resize)

    with ThreadPoolExecutor(num_workers()) as executor:
        for label, path, rows in _chosen(takes, part):
            for start in range(0, len(rows), _NUM_AT_ONCE):
                images = read_rows_at(path, rows[start : start + _NUM_AT_ONCE], ["image"])["image"].to_pylist()
                yield label, np.stack(list(executor.map(decode, images)))


def _chosen(takes: list[Take], part: str) -> Iterator[tuple[str, Path, list[int]]]:
    """Yield the label, the path and the rows that belong to a part, of each table."""
    for take in (take for take in takes if take.has_part(part)):
        frames = read_parquet(layout.FRAMES / take.table, columns=["frame_id"])
        yield take.label, layout.FRAMES / take.table, take.indices_of_part(part, len(frames)).tolist()
        if part == TRAIN:
            copies = read_parquet(layout.AUGMENTED / take.table, columns=["frame_id"])
            rows = np.flatnonzero(are_copies_of_part(take, part, frames, copies)).tolist()
            yield take.label, layout.AUGMENTED / take.table, rows
