"""Where takes that a phone sends go: the folder of their label, whole or not at all, and never over another."""

import filecmp
import json
import os
import shutil
import unicodedata
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

from pipeline.errors import InputError
from pipeline.files import layout
from pipeline.files.suffixes import PHOTO_SUFFIXES, VIDEO_SUFFIXES
from pipeline.images.photos import read_photo
from pipeline.takes.splits import FOLDERS_OF_PARTS, NONE
from pipeline.video import sample_frames

# What browsers record, and files that they show, by media type.
SUFFIXES = {
    **{"video/mp4": ".mp4", "video/webm": ".webm", "video/quicktime": ".mov", "video/x-m4v": ".m4v"},
    **{"video/x-matroska": ".mkv", "video/3gpp": ".3gp"},
    **{"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/avif": ".avif", "image/bmp": ".bmp"},
    **{"image/heic": ".heic", "image/heif": ".heif"},
}

_INCOMING = Path(".cache/film")  # not below data/, which DVC may be reading
_MAX_LABEL_BYTES = 200
_CHECKED_FRAMES_A_SECOND = 4
_CHECKED_WIDTH_PIXELS = 64


def label_of(text: str) -> str:
    """Return a label that someone typed, as its folder is called: in Unicode NFC, without spaces around.

    Raises:
        InputError: If it is no name for a folder, means something else, or differs from a label only in case.
    """
    label = unicodedata.normalize("NFC", text).strip()
    num_bytes = len(label.encode("utf-8", "replace"))
    is_name = label.isprintable() and not set('/\\:*?"<>|') & set(label) and not label.startswith(".")
    if not label or not is_name or num_bytes > _MAX_LABEL_BYTES or label.endswith("."):
        raise InputError(
            found=f"label {label[:40]!r}",
            expected=f'up to {_MAX_LABEL_BYTES} bytes in one line, none of / \\ : * ? " < > |, and no dot at an end',
            remedy="choose another name",
        )
    if label.casefold() in FOLDERS_OF_PARTS:
        raise InputError(
            found=f"label '{label}', which is what data sets call their parts",
            expected="the name of what is filmed",
            remedy="choose another name",
        )
    for other in labels():
        if other != label and other.casefold() == label.casefold():
            raise InputError(
                found=f"label '{label}' beside '{other}'",
                expected="labels that differ in more than case",
                remedy=f"film it as '{other}'",
            )
    return label


def labels() -> dict[str, int]:
    """Return how many takes each label has, by name; what is none of them comes last, and is always there."""
    counts = Counter[str]()
    for folder, suffixes in ((layout.VIDEOS, VIDEO_SUFFIXES), (layout.PHOTOS, PHOTO_SUFFIXES)):
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.is_dir() and not path.name.startswith("."):
                label = unicodedata.normalize("NFC", path.name)
                counts[label] += sum(_is_take(take, suffixes) for take in path.iterdir())
    counts[NONE] += 0
    return {label: counts[label] for label in sorted(counts, key=lambda label: (label == NONE, label))}


def advice() -> list[str]:
    """Return what to film next, in words, as the stage `inspect` found; nothing before the first run."""
    try:
        found = json.loads(layout.INSPECTED.read_text(encoding="utf-8"))["film_next"]
    except (OSError, ValueError, KeyError):
        return []
    return [str(sentence) for sentence in found]


class Incoming:
    """A take that is being received. It lies in a folder of its own until it is whole and has been looked at."""

    def __init__(self, suffix: str) -> None:
        """Begin to receive; raises OSError if there is no room."""
        _INCOMING.mkdir(parents=True, exist_ok=True)
        self.path = _INCOMING / f"{token_hex(16)}{suffix}"
        self._file = self.path.open("xb")

    def write(self, chunk: bytes) -> None:
        """Receive more; raises OSError if there is no room."""
        self._file.write(chunk)

    def keep(self, label: str) -> Path:
        """Look at the whole take, and give it its place.

        Returns:
            data/videos/<label>/<time>.<suffix>, or data/photos/ for a photo, which is a take of its own; or what is
            there with the same content: a phone that did not hear the answer sends a take again.

        Raises:
            InputError: If it is no video, or no photo, that the pipeline reads.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self.path.suffix in PHOTO_SUFFIXES:
            kind, look_at, videos_or_photos = "photo", _look_at_photo, layout.PHOTOS
        else:
            kind, look_at, videos_or_photos = "video", _look_at_video, layout.VIDEOS
        try:
            look_at(self.path)
        except InputError as error:
            raise InputError(
                found=f"this {kind} cannot be used: {error.found}".replace(str(self.path), "it"),
                expected=f"a {kind} that the pipeline reads",
                remedy="send another; if it happens with all that you film here, use another browser",
            ) from error
        folder = videos_or_photos / label
        folder.mkdir(parents=True, exist_ok=True)
        return _same_in(folder, self.path) or _placed(self.path, folder)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def clear() -> None:
    """Remove what an earlier server, which was killed, had begun to receive."""
    shutil.rmtree(_INCOMING, ignore_errors=True)


def _look_at_video(path: Path) -> None:
    frames = sample_frames(path, per_second=_CHECKED_FRAMES_A_SECOND, width_pixels=_CHECKED_WIDTH_PIXELS)
    if not sum(1 for _ in frames):
        raise InputError(found="it has no frame", expected="a few seconds", remedy="film again")


def _look_at_photo(path: Path) -> None:
    read_photo(path, width_pixels=_CHECKED_WIDTH_PIXELS)


def _placed(source: Path, folder: Path) -> Path:
    """Move a file into a folder, under the time as its name; never over another."""
    while True:
        target = folder / f"{datetime.now(UTC):%Y%m%d_%H%M%S_%f}{source.suffix}"
        try:
            os.link(source, target)
        except FileExistsError:
            continue
        except OSError:  # another file system, or one without links: by way of a hidden copy
            hidden = target.with_name(f".{target.name}.part")
            try:
                shutil.copyfile(source, hidden)
                if target.exists():
                    continue
                hidden.replace(target)
            finally:
                hidden.unlink(missing_ok=True)
        source.unlink()
        return target


def _same_in(folder: Path, source: Path) -> Path | None:
    """Return the file of a folder that has the same content, if there is one."""
    num_bytes = source.stat().st_size
    for path in sorted(folder.glob(f"*{source.suffix}")):
        if path.stat().st_size == num_bytes and filecmp.cmp(path, source, shallow=False):
            return path
    return None


def _is_take(path: Path, suffixes: Sequence[str]) -> bool:
    if path.name.startswith("."):
        return False
    return path.suffix.lower() in suffixes or (path.is_dir() and suffixes == PHOTO_SUFFIXES)
