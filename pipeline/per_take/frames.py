"""Turns one take into frames: a video is sampled by presentation time, photos are read one by one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from pipeline.config.frames import FramesConfig
from pipeline.errors import InputError
from pipeline.files import sha256_of_file
from pipeline.files.faults import unreadable
from pipeline.images.codec import encode_jpeg
from pipeline.images.photos import read_photo
from pipeline.takes.hashes import sha256_of_take
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
    with _unchanged(path, [path], sha256):
        rows = [
            (frame.pts_seconds, encode_jpeg(frame.image, quality=config.jpeg_quality))
            for frame in sample_frames(path, per_second=config.per_second, width_pixels=config.width)
        ]
    return _table(sha256, [pts_seconds for pts_seconds, _ in rows], [image for _, image in rows])


def frames_of_photos(path: Path, files: Sequence[Path], sha256: str, config: FramesConfig) -> pa.Table:
    """Read a photo, or the photos of a folder; like `frames_of_video`, without times.

    Args:
        path: The photo or the folder.
        files: The photo itself, or those in the folder, in the order of their names.
        sha256: See `frames_of_video`.
        config: Width and JPEG quality.
    """
    with _unchanged(path, files, sha256):
        images = [
            encode_jpeg(read_photo(photo, width_pixels=config.width), quality=config.jpeg_quality) for photo in files
        ]
    return _table(sha256, [None] * len(images), images)


@contextmanager
def _unchanged(path: Path, files: Sequence[Path], sha256: str) -> Iterator[None]:
    """Refuse a take whose content is not the one that was split, or that changes while it is read.

    Its result would be kept under the other content's hash, and come back with it.
    """
    try:
        before = _state(files)
        found = sha256_of_take(map(sha256_of_file, files), is_folder=path.is_dir())
    except OSError as error:
        raise unreadable(path, error) from error
    if found != sha256:
        raise _changed(path)
    yield
    if _state(files) != before:
        raise _changed(path)


def _state(files: Sequence[Path]) -> list[tuple[int, int, int]]:
    """Return what changes with each file: inode, size in bytes, time of the last change in nanoseconds."""
    states = [file.stat() for file in files]
    return [(state.st_ino, state.st_size, state.st_mtime_ns) for state in states]


def _changed(path: Path) -> InputError:
    return InputError(
        found=f"{path} has changed since the takes were split",
        expected="the content that the stage `split` found",
        remedy="run `dvc repro` again; if that finds nothing to do: dvc repro --force split && dvc repro",
    )


def _table(sha256: str, pts_seconds: Sequence[float | None], images: list[bytes]) -> pa.Table:
    frame_ids = [f"{sha256[:16]}-{index:06d}" for index in range(len(images))]
    return pa.table([frame_ids, pts_seconds, images], schema=FRAMES)
