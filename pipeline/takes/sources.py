"""Finds takes on the disk: a folder for each label, takes in it."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import sha256_of_bytes, sha256_of_file
from pipeline.files.suffixes import PHOTO_SUFFIXES

_JUNK = ("thumbs.db", "desktop.ini", "ehthumbs.db")


@dataclass(frozen=True)
class Source:
    """A take as it lies in a data folder: a video, a folder of photos, or a single photo."""

    label: str
    path: Path

    @property
    def name(self) -> str:
        """Return the file or folder name, in Unicode NFC."""
        return unicodedata.normalize("NFC", self.path.name)


def sources_below(folder: Path, suffixes: tuple[str, ...]) -> list[Source]:
    """List the takes of a data folder, sorted by path.

    Files that systems leave behind (.DS_Store, Thumbs.db, ._clip.mp4 and whatever else starts with a dot) are ignored.

    Args:
        folder: Holds a folder for each label. If it does not exist, it has no takes.
        suffixes: Endings of files that can be takes. Where photos are among them, a sub-folder is one take.

    Raises:
        PipelineError: If a file lies outside a label's folder, a label has no takes, or a file has another ending.
    """
    if not folder.is_dir():
        return []
    loose = [path for path in _visible(folder) if path.is_file() and path.suffix.lower() in suffixes]
    if loose:
        raise PipelineError(
            found=f"{loose[0]} lies directly under {folder}/",
            expected=f"{folder}/<label>/{loose[0].name}",
            remedy="move it into a folder named after what it shows",
        )
    sources: list[Source] = []
    for label_folder in (path for path in _visible(folder) if path.is_dir()):
        takes = _takes_of(label_folder, suffixes)
        if not takes:
            raise PipelineError(
                found=f"label folder {label_folder}/ holds no takes",
                expected=f"takes in it ({' '.join(suffixes)})",
                remedy="put some there, or remove the folder",
            )
        label = unicodedata.normalize("NFC", label_folder.name)
        sources += [Source(label, path) for path in takes]
    return sources


def sha256_of_source(path: Path) -> str:
    """Hash a take's content: of a file its bytes, of a folder its photos in the order of their names."""
    if path.is_file():
        return sha256_of_file(path)
    return sha256_of_bytes("".join(sha256_of_file(photo) for photo in files_in(path)).encode())


def is_photo(path: Path) -> bool:
    """Tell by its name whether a file is a photo."""
    return path.suffix.lower() in PHOTO_SUFFIXES


def files_in(folder: Path) -> list[Path]:
    """Return the files of a take that is a folder, sorted by name."""
    return sorted(path for path in _visible(folder) if path.is_file())


def _takes_of(label_folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """List the takes in a label's folder, refusing what is none."""
    takes = []
    for path in _visible(label_folder):
        is_group = path.is_dir() and set(PHOTO_SUFFIXES) <= set(suffixes)
        files = _visible(path) if is_group else [path]
        strange = [file for file in files if file.is_dir() or file.suffix.lower() not in suffixes]
        if strange:
            raise PipelineError(
                found=f"{strange[0]} is {'a folder' if strange[0].is_dir() else 'neither video nor photo by its name'}",
                expected=f"files that end in {' '.join(suffixes)}",
                remedy="convert it, or move it out of the data folder",
            )
        if files:
            takes.append(path)
    return takes


def _visible(folder: Path) -> list[Path]:
    """List a folder without what file managers and systems leave behind, sorted."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name.lower() not in _JUNK)
