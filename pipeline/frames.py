"""Stage `frames`: turns takes into frames.

Reads videos, photos and data/splits.csv; writes data/frames/<label>/<take>.parquet (schema `tables.FRAMES`).
Frames are sampled by presentation time, upright, scaled down, and kept as JPEG in one file a take: thousands of small
files would cost DVC more than the decoding.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from pipeline.config.application import run_stage
from pipeline.config.frames import FramesConfig, FramesStage
from pipeline.errors import InputError
from pipeline.files import layout
from pipeline.per_take.equal_frames import flat_takes, refuse_equal_frames
from pipeline.per_take.frames import frames_of_photos, frames_of_video
from pipeline.takes.cache import project_cache
from pipeline.takes.engines import engine_of
from pipeline.takes.jobs import TakeJob
from pipeline.takes.runner import map_takes
from pipeline.takes.sources import Source, is_photo
from pipeline.takes.splits import PARTS, Take, labels_of, read_takes
from pipeline.takes.tables import num_rows_of


def frames(config: FramesStage) -> None:
    """Compute the frames of all takes; no two may show the same, and each label needs frames in each part."""
    takes = read_takes(layout.SPLITS)
    jobs = [_job(take, config.frames) for take in takes]
    map_takes(
        jobs,
        layout.FRAMES,
        stage="frames",
        engine=engine_of(config.engine),
        cache=project_cache(),
        keys=layout.FRAMES_KEYS,
    )
    refuse_equal_frames(takes, layout.FRAMES)
    check_parts(takes)
    for take in flat_takes(takes, layout.FRAMES):
        sys.stderr.write(f"frames: {take.path} shows one colour from beginning to end: was the lens covered?\n")


def check_parts(takes: list[Take]) -> None:
    """Raise InputError if a label has no frames in some part, as with a video too short to be cut into blocks."""
    for label in labels_of(takes):
        held = set[str]().union(*(_parts_with_frames(take) for take in takes if take.label == label))
        for part in PARTS:
            if part not in held:
                raise InputError(
                    found=f"label '{label}' has no {part} frames",
                    expected="at least one frame of each label for train, validation and test",
                    remedy="add takes to the label (three or more), film longer, or raise frames.per_second",
                )


def _job(take: Take, config: FramesConfig) -> TakeJob:
    settings = asdict(config)
    if take.path.is_dir() or is_photo(take.path):
        files: Sequence[Path] = Source(take.label, take.path).files
        compute = partial(frames_of_photos, take.path, files, take.sha256, config)
        del settings["per_second"]  # photos have no time
    else:
        files = [take.path]
        compute = partial(frames_of_video, take.path, take.sha256, config)
    depends_on = {"take": take.sha256, "settings": settings}
    return TakeJob.of(take.full_name, take.table, compute, depends_on, reads=files)


def _parts_with_frames(take: Take) -> set[str]:
    num_frames = num_rows_of(layout.FRAMES / take.table)
    return {part for part in PARTS if len(take.indices_of_part(part, num_frames))}


def main() -> None:
    """Run the stage from the command line."""
    run_stage("frames", FramesStage, frames)


if __name__ == "__main__":
    main()
