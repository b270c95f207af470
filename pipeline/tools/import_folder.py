"""Brings an image-folder data set, <label>/*.jpg or {train,val,test}/<label>/*.jpg, into data/photos/."""

import contextlib
import errno
import os
import shutil
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.config.application import answer_ctrl_c_by_an_exception
from pipeline.errors import ConfigurationError, InputError
from pipeline.files import layout, sha256_of_file
from pipeline.files.suffixes import PHOTO_SUFFIXES
from pipeline.processes.progress import counted
from pipeline.takes.assignment import MIN_TAKES
from pipeline.takes.splits import FOLDERS_OF_PARTS

_JUNK = ("thumbs.db", "desktop.ini", "ehthumbs.db")
_MAX_NAMED = 5  # files that an error lists


@dataclass(frozen=True)
class Photo:
    """A photo of the set.

    Attributes:
        source: Where it lies.
        target: Where it goes, relative to data/photos.
    """

    source: Path
    target: Path

    @property
    def label(self) -> str:
        """Return the label's folder."""
        return self.target.parts[0]


def import_folder(folder: Path, *, links: bool) -> str:
    """Bring a data set in, whole or not at all, and tell what was done.

    Args:
        folder: The data set.
        links: Make hard links instead of copies.

    Raises:
        ConfigurationError: If links are impossible.
        InputError: If the folder is no such data set, or a photo would go where something is already.
    """
    answer_ctrl_c_by_an_exception()
    parts = parts_of(folder)
    photos, num_twins = without_twins(photos_of(folder, parts))
    _refuse_what_is_there(photos)
    _bring(photos, links=links)
    return _told(photos, num_twins, parts)


def parts_of(folder: Path) -> list[Path]:
    """Return the folders of a set's parts; none if its folders are labels.

    Raises:
        InputError: If there is no folder in it, or some are parts and others are not.
    """
    folders = [path for path in _visible(folder) if path.is_dir()] if folder.is_dir() else []
    if not folders:
        raise InputError(
            found=f"no folders in {folder}" if folder.is_dir() else f"there is no folder {folder}",
            expected="<label>/ with photos, or train/<label>/, val/<label>/ and test/<label>/",
            remedy="give the folder that holds these",
        )
    parts = [path for path in folders if _is_part(path.name)]
    others = [path.name for path in folders if path not in parts]
    if parts and others:
        raise InputError(
            found=f"{folder} holds {', '.join(part.name for part in parts)} and beside them {_some(others)}",
            expected="either labels or parts of a split",
            remedy="move out what does not belong to the set",
        )
    return parts


def photos_of(folder: Path, parts: Sequence[Path]) -> list[Photo]:
    """List a set's photos, sorted by where they go; merged parts give each photo's name the part in front.

    Raises:
        InputError: If a label has no photos, or a file of a label is none.
    """
    found: list[Photo] = []
    for top in parts or [folder]:
        prefix = f"{top.name}-" if parts else ""
        for label_folder in (path for path in _visible(top) if path.is_dir()):
            label = unicodedata.normalize("NFC", label_folder.name)
            of_label = list(_photos_of_label(label_folder, Path(label), prefix))
            if not of_label:
                raise InputError(
                    found=f"no photos in {label_folder}",
                    expected=f"photos of a label ({' '.join(PHOTO_SUFFIXES)})",
                    remedy="remove the folder, or give the one that holds the labels",
                )
            found += of_label
    return sorted(found, key=lambda photo: photo.target)


def without_twins(photos: Sequence[Photo]) -> tuple[list[Photo], int]:
    """Leave out photos whose content is under the same label already; return the others, and how many were left out.

    Raises:
        InputError: If one content is under two labels.
    """
    first: dict[str, Photo] = {}
    num_twins = 0
    for photo in counted(photos, "import", total=len(photos), unit="photo", leave=False):
        before = first.setdefault(_sha256(photo.source), photo)
        if before.label != photo.label:
            raise InputError(
                found=f"the same photo under two labels: {before.source} and {photo.source}",
                expected="one label for a photo",
                remedy="delete the wrong one",
            )
        num_twins += before is not photo
    return list(first.values()), num_twins


def _photos_of_label(folder: Path, target: Path, prefix: str) -> Iterator[Photo]:
    """Yield the photos of a label; a folder in it stays one, whose photos are one take."""
    for path in _visible(folder):
        if path.is_dir() and len(target.parts) == 1 and not _is_part(path.name):
            name = unicodedata.normalize("NFC", path.name)
            yield from _photos_of_label(path, target / f"{prefix}{name}", "")
        elif path.is_dir() or path.suffix.lower() not in PHOTO_SUFFIXES:
            raise InputError(
                found=f"{path} is {'a folder' if path.is_dir() else 'no photo by its name'}",
                expected=f"<label>/ with files that end in {' '.join(PHOTO_SUFFIXES)}, or with folders of such",
                remedy="give the folder that holds the labels or the parts; move out what is no photo",
            )
        else:
            yield Photo(path, target / f"{prefix}{unicodedata.normalize('NFC', path.name)}")


def _refuse_what_is_there(photos: Sequence[Photo]) -> None:
    """Check that no photo goes where something is, or where another goes on a disk that knows no case."""
    folded = Counter(str(photo.target).casefold() for photo in photos)
    taken = [
        str(layout.PHOTOS / photo.target)
        for photo in photos
        if os.path.lexists(layout.PHOTOS / photo.target) or folded[str(photo.target).casefold()] > 1
    ]
    if taken:
        raise InputError(
            found=f"already there, or twice in the set: {_some(taken)}",
            expected="names that are free: nothing is overwritten",
            remedy="rename them in the set, or remove what was imported before; nothing was brought in",
        )


def _bring(photos: Sequence[Photo], *, links: bool) -> None:
    """Copy or link into a folder beside data/photos, then move all to their places, or none."""
    layout.PHOTOS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=layout.PHOTOS.parent, prefix=".import.") as name:
        staged = [replace(photo, source=Path(name) / str(number)) for number, photo in enumerate(photos)]
        pairs = list(zip(photos, staged, strict=True))
        for photo, copy in counted(pairs, "import", total=len(pairs), unit="photo"):
            _take(photo.source, copy.source, links=links)
        _move_all(staged)


def _take(source: Path, target: Path, *, links: bool) -> None:
    try:
        if links:
            target.hardlink_to(source.resolve(strict=True))
        else:
            shutil.copyfile(source, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # told as what it is, at the edge
        if links and error.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise ConfigurationError(
                found=f"{source} cannot be linked into {layout.PHOTOS}/ ({error.strerror})",
                expected="a data set on the same disk, which must know hard links",
                remedy="leave out --link; nothing was brought in",
            ) from error
        raise _unreadable(source, error) from error


def _move_all(photos: Sequence[Photo]) -> None:
    """Move photos to their places; take all back if one cannot be."""
    with contextlib.ExitStack() as undo:
        for photo in photos:
            target = layout.PHOTOS / photo.target
            for folder in reversed([target.parent, *target.parent.parents]):
                if not folder.exists():
                    folder.mkdir()
                    undo.callback(folder.rmdir)
            photo.source.rename(target)
            undo.callback(target.unlink)
        undo.pop_all()


def _told(photos: Sequence[Photo], num_twins: int, parts: Sequence[Path]) -> str:
    """Tell what was brought in, and what becomes of it."""
    takes = {photo.target.parts[:2] for photo in photos}
    counts = Counter(label for label, _ in takes)
    lines = [f"{len(photos)} photos, {len(takes)} takes of {len(counts)} labels, in {layout.PHOTOS}/:"]
    lines += [f"  {label}: {count} takes" for label, count in sorted(counts.items())]
    if num_twins:
        lines.append(f"{num_twins} left out, since the same content was under the same label.")
    if parts:
        names = [part.name for part in parts]
        held_out = next((name for name in names if name.casefold().startswith("test")), names[-1])
        lines.append(f"Their names begin with the part of the set that they come from ({', '.join(names)}).")
        lines.append(f'To keep its own test part, write into params.yaml under `split`:  test: ["*/{held_out}-*"]')
    if few := sorted(label for label, count in counts.items() if count < MIN_TAKES):
        lines.append(f"Too few takes to divide ({MIN_TAKES} are needed): {', '.join(few)}.")
    if others := sorted({path.name for path in _visible(layout.VIDEOS)} - set(counts)):
        lines.append(f"Labels of {layout.VIDEOS}/ are part of the project, too: {', '.join(others)}.")
    lines.append(f"Next: git add {layout.PHOTOS} (or dvc add it, if it is large), then: dvc repro")
    return "\n".join([*lines, ""])


def _visible(folder: Path) -> list[Path]:
    """List a folder without what file managers and systems leave behind, sorted."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name.lower() not in _JUNK)


def _is_part(name: str) -> bool:
    return name.casefold() in FOLDERS_OF_PARTS


def _sha256(path: Path) -> str:
    try:
        return sha256_of_file(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        found=f"{path} cannot be read ({error.strerror})",
        expected="photos that may be read",
        remedy="mend it or move it out of the set; nothing was brought in",
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more
