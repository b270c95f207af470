"""Finds takes that show the same pictures though their files differ: remuxed, renamed inside, with another EXIF."""

from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import combinations
from pathlib import Path

import numpy as np

from pipeline.errors import InputError, combine
from pipeline.images.codec import decode_jpeg
from pipeline.takes.splits import Take
from pipeline.takes.tables import num_rows_of, read_groups, read_rows_at

_MIN_SHARED = 0.2  # of the different pictures of the shorter take; two recordings share none, since sensors are noisy
_MAX_FLAT = 3.0  # grey levels; a picture of a lens cap varies less, and may well come twice


def refuse_equal_frames(takes: Sequence[Take], folder: Path) -> None:
    """Raise InputError if two takes share frames, pixel for pixel: one would be trained on and the other scored.

    Equal pixels were encoded to equal bytes, so bytes are compared. A copy that was cut at the front may be sampled
    between these frames, and is then not found.

    Args:
        takes: All takes.
        folder: Where the tables of their frames lie.

    Raises:
        InputError: All pairs are told at once.
    """
    frames_of = [set(_digests(folder / take.table)) for take in takes]
    takes_of: dict[bytes, list[int]] = {}
    for number, digests in enumerate(frames_of):
        for digest in digests:
            takes_of.setdefault(digest, []).append(number)
    shared: Counter[tuple[int, int]] = Counter()
    for numbers in takes_of.values():
        shared.update(combinations(numbers, 2))
    errors = [
        _same(takes[one], takes[other], count)
        for (one, other), count in sorted(shared.items())
        if count >= _MIN_SHARED * min(len(frames_of[one]), len(frames_of[other]))
        and not _are_flat(folder, takes[one], frames_of[one] & frames_of[other])
    ]
    if errors:
        raise combine(errors, "pairs of takes")


def flat_takes(takes: Sequence[Take], folder: Path) -> list[Take]:
    """Return the videos whose first, middle and last frame show one colour: a lens cap, a pocket, a dark room."""
    return [take for take in takes if _is_flat_video(folder / take.table)]


def _is_flat_video(path: Path) -> bool:
    num_rows = num_rows_of(path)
    if num_rows < 2:
        return False
    rows = read_rows_at(path, [0, num_rows // 2, num_rows - 1], ["pts_seconds", "image"]).to_pylist()
    return rows[0]["pts_seconds"] is not None and all(_flatness(row["image"]) <= _MAX_FLAT for row in rows)


def _digests(path: Path) -> Iterator[bytes]:
    for group in read_groups(path, ["image"]):
        for image in group["image"]:
            yield sha256(image.as_buffer()).digest()


def _are_flat(folder: Path, take: Take, digests: set[bytes]) -> bool:
    """Tell whether all of some frames of a take show one colour."""
    images = (image for group in read_groups(folder / take.table, ["image"]) for image in group["image"].to_pylist())
    return all(_flatness(image) <= _MAX_FLAT for image in images if sha256(image).digest() in digests)


def _flatness(image: bytes) -> float:
    return float(np.std(decode_jpeg(image), axis=(0, 1)).max())


def _same(one: Take, other: Take, count: int) -> InputError:
    return InputError(
        found=f"{one.path} and {other.path} show the same pictures ({count} of them), though the files differ",
        expected="each recording once, in one take and under one label",
        remedy="delete one of the two",
    )
