"""Turns one take into frames: a video is sampled by presentation time, photos are read one by one."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.config.frames import FramesConfig
from pipeline.errors import InputError
from pipeline.files import sha256_of_file
from pipeline.files.faults import unreadable
from pipeline.images.codec import encode_jpeg
from pipeline.images.photos import read_photo
from pipeline.takes.hashes import sha256_of_take
from pipeline.takes.tables import FRAMES, reader_of
from pipeline.video import sample_frames


def frames_of_video(path: Path, sha256: str, config: FramesConfig) -> pa.RecordBatchReader:
    """Sample a video.

    Args:
        path: The video.
        sha256: Hash of its content as the stage `split` found it, from which the frames' names are made.
        config: Rate, width and JPEG quality.

    Returns:
        A table with the schema `FRAMES`, one row a frame, in order of presentation. Reading it decodes the video.

    Raises:
        InputError: While it is read: if the file is no readable video, or not the one that was split.
    """
    sampled = sample_frames(path, per_second=config.per_second, width_pixels=config.width)
    encoded = ((frame.pts_seconds, encode_jpeg(frame.image, quality=config.jpeg_quality)) for frame in sampled)
    return reader_of(_rows(path, [path], sha256, encoded), FRAMES)


def frames_of_photos(path: Path, files: Sequence[Path], sha256: str, config: FramesConfig) -> pa.RecordBatchReader:
    """Read a photo, or the photos of a folder; like `frames_of_video`, without times.

    Args:
        path: The photo or the folder.
        files: The photo itself, or those in the folder, in the order of their names.
        sha256: See `frames_of_video`.
        config: Width and JPEG quality.
    """
    photos = (read_photo(photo, width_pixels=config.width) for photo in files)
    encoded = ((None, encode_jpeg(photo, quality=config.jpeg_quality)) for photo in photos)
    return reader_of(_rows(path, files, sha256, encoded), FRAMES)


def _rows(
    path: Path, files: Sequence[Path], sha256: str, encoded: Iterable[tuple[float | None, bytes]]
) -> Iterator[dict[str, Any]]:
    """Yield rows with the schema `FRAMES`; see `_unchanged`."""
    with _unchanged(path, files, sha256):
        for index, (pts_seconds, image) in enumerate(encoded):
            yield {"frame_id": f"{sha256[:16]}-{index:06d}", "pts_seconds": pts_seconds, "image": image}


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
