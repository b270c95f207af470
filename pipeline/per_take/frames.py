"""Turns one take into frames: a video is sampled by presentation time, photos are read one by one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from pipeline.config.frames import FramesConfig
from pipeline.errors import InputError
from pipeline.images.codec import encode_jpeg, read_photo
from pipeline.takes.sources import files_in, sha256_of_source
from pipeline.takes.tables import FRAMES
from pipeline.video import sample_frames


def frames_of_video(path: Path, sha256: str, config: FramesConfig) -> pa.Table:
    """Sample a video.

    Args:
        path: The video.
        sha256: Hash of its content as the stage `split` found it, from which the frames' names are made.
        config: Rate, width and JPEG quality.

    Returns:
        A table with the schema `FRAMES`, one row a frame, in order of presentation.

    Raises:
        InputError: If the file is no readable video, or not the one that was split.
    """
    with _unchanged(path, sha256):
        rows = [
            (frame.pts_seconds, encode_jpeg(frame.image, quality=config.jpeg_quality))
            for frame in sample_frames(path, per_second=config.per_second, width_pixels=config.width)
        ]
    return _table(sha256, [pts_seconds for pts_seconds, _ in rows], [image for _, image in rows])


def frames_of_photos(path: Path, sha256: str, config: FramesConfig) -> pa.Table:
    """Read a photo, or all photos of a folder in the order of their names; like `frames_of_video`, without times."""
    with _unchanged(path, sha256):
        images = [
            encode_jpeg(read_photo(photo, width_pixels=config.width), quality=config.jpeg_quality)
            for photo in _files_of(path)
        ]
    return _table(sha256, [None] * len(images), images)


@contextmanager
def _unchanged(path: Path, sha256: str) -> Iterator[None]:
    """Refuse a take whose content is not the one that was split, or that changes while it is read.

    Its result would be kept under the other content's hash, and come back with it.
    """
    before = _state(path)
    is_other = sha256_of_source(path) != sha256
    if not is_other:
        yield
    if is_other or _state(path) != before:
        raise InputError(
            found=f"{path} has changed since the takes were split",
            expected="the content that the stage `split` found",
            remedy="run `dvc repro` again; if that finds nothing to do: dvc repro --force split && dvc repro",
        )


def _state(path: Path) -> list[tuple[str, int, int, int]]:
    """Return what changes with a file: name, inode, size in bytes, time of the last change in nanoseconds."""
    states = [(file.name, file.stat()) for file in _files_of(path)]
    return [(name, state.st_ino, state.st_size, state.st_mtime_ns) for name, state in states]


def _files_of(path: Path) -> list[Path]:
    return files_in(path) if path.is_dir() else [path]


def _table(sha256: str, pts_seconds: Sequence[float | None], images: list[bytes]) -> pa.Table:
    frame_ids = [f"{sha256[:16]}-{index:06d}" for index in range(len(images))]
    return pa.table([frame_ids, pts_seconds, images], schema=FRAMES)
