"""Stage `frames`: turns takes into frames.

Reads videos, photos and data/splits.csv; writes data/frames/<label>/<take>.parquet (schema `tables.FRAMES`).
Frames are sampled by presentation time, upright, scaled down, and kept as JPEG in one file a take: thousands of small
files would cost DVC more than the decoding.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

from pipeline.config.application import run_stage
from pipeline.config.frames import FramesConfig, FramesStage
from pipeline.errors import PipelineError
from pipeline.files import layout
from pipeline.files.suffixes import PHOTO_SUFFIXES
from pipeline.images.codec import encode_jpeg, read_photo
from pipeline.takes.cache import key_of, project_cache
from pipeline.takes.engines import project_engine
from pipeline.takes.jobs import TakeJob
from pipeline.takes.runner import map_takes
from pipeline.takes.splits import PARTS, Take, labels_of, read_takes
from pipeline.takes.tables import FRAMES, num_rows_of
from pipeline.takes.versions import versions
from pipeline.video import sample_frames

_VERSION = 1  # raise it when this stage gives other bytes for the same input and settings


def frames(config: FramesStage) -> None:
    """Compute the frames of all takes, and check that each label has frames in each part."""
    takes = read_takes(layout.SPLITS)
    jobs = [_job(take, config.frames) for take in takes]
    map_takes(jobs, layout.FRAMES, stage="frames", engine=project_engine(), cache=project_cache())
    check_parts(takes)


def frames_of_video(path: Path, sha256: str, config: FramesConfig) -> pa.Table:
    """Sample a video.

    Args:
        path: The video.
        sha256: Hash of its content, from which the frames' names are made.
        config: Rate, width and JPEG quality.

    Returns:
        A table with the schema `FRAMES`, one row a frame, in order of presentation.

    Raises:
        PipelineError: If the file is no readable video.
    """
    rows = [
        (frame.pts_seconds, encode_jpeg(frame.image, quality=config.jpeg_quality))
        for frame in sample_frames(path, per_second=config.per_second, width_pixels=config.width)
    ]
    return _table(sha256, [pts_seconds for pts_seconds, _ in rows], [image for _, image in rows])


def frames_of_photos(path: Path, sha256: str, config: FramesConfig) -> pa.Table:
    """Read a photo, or all photos of a folder in the order of their names; like `frames_of_video`, without times."""
    photos = [path] if path.is_file() else sorted(file for file in path.iterdir() if _is_photo(file))
    images = [
        encode_jpeg(read_photo(photo, width_pixels=config.width), quality=config.jpeg_quality) for photo in photos
    ]
    return _table(sha256, [None] * len(images), images)


def check_parts(takes: list[Take]) -> None:
    """Raise PipelineError if a label has no frames in some part, as with a video too short to be cut into blocks."""
    for label in labels_of(takes):
        held = set[str]().union(*(_parts_with_frames(take) for take in takes if take.label == label))
        for part in PARTS:
            if part not in held:
                raise PipelineError(
                    found=f"label '{label}' has no {part} frames",
                    expected="at least one frame of each label for train, validation and test",
                    remedy="add takes to the label (three or more), film longer, or raise frames.per_second",
                )


def _job(take: Take, config: FramesConfig) -> TakeJob:
    is_video = not take.path.is_dir() and not _is_photo(take.path)
    compute = frames_of_video if is_video else frames_of_photos
    settings = {"per_second": config.per_second} if is_video else {}
    parts = {
        "stage": "frames",
        "version": _VERSION,
        "libraries": versions("av", "pillow", "numpy", "pyarrow"),
        "take": take.sha256,
        "settings": settings | {"width": config.width, "jpeg_quality": config.jpeg_quality},
    }
    return TakeJob(
        f"{take.label}/{take.name}", take.table, key_of(parts), partial(compute, take.path, take.sha256, config)
    )


def _table(sha256: str, pts_seconds: Sequence[float | None], images: list[bytes]) -> pa.Table:
    frame_ids = [f"{sha256[:16]}-{index:06d}" for index in range(len(images))]
    return pa.table([frame_ids, pts_seconds, images], schema=FRAMES)


def _parts_with_frames(take: Take) -> set[str]:
    num_frames = num_rows_of(layout.FRAMES / take.table)
    return {part for part in PARTS if len(take.indices_of_part(part, num_frames))}


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith(".")


def main() -> None:
    """Run the stage from the command line."""
    run_stage("frames", FramesStage, frames)


if __name__ == "__main__":
    main()
