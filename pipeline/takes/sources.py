"""Finds takes on the disk: a folder for each label, takes in it. All that is no take is told at once."""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError, combine
from pipeline.files.faults import fault_of, unreadable
from pipeline.files.suffixes import PHOTO_SUFFIXES, VIDEO_SUFFIXES
from pipeline.takes.splits import NONE

_MAX_NAME_BYTES = 240  # of the 255 that file systems allow
_JUNK = ("thumbs.db", "desktop.ini", "ehthumbs.db")
_JUNK_FOLDERS = (".appledouble", ".thumbnails", ".trash", ".trashes")

# What phones and cameras lay beside a picture: edits, places, thumbnails, previews, subtitles. `.dvc` is `dvc add`'s.
SIDECAR_SUFFIXES = (".aae", ".json", ".thm", ".lrv", ".xmp", ".srt", ".dvc")


@dataclass(frozen=True)
class Source:
    """A take as it lies in a data folder: a video, a folder of photos, or a single photo."""

    label: str
    path: Path

    @property
    def name(self) -> str:
        """Return the file or folder name, in Unicode NFC."""
        return unicodedata.normalize("NFC", self.path.name)

    @property
    def files(self) -> list[Path]:
        """Return the files that it consists of, sorted by name."""
        return files_in(self.path) if self.path.is_dir() else [self.path]


def find_sources(videos: Path, photos: Path) -> list[Source]:
    """List the takes below both folders, sorted by label and name. Nothing is read but names and sizes.

    Raises:
        InputError: If there are no takes, one label only, labels or takes that differ only in case, a label folder that
            is a link, or anything that `sources_below` refuses; all of these are told at once.
    """
    found = [
        *_Search(VIDEO_SUFFIXES, elsewhere=photos, follows_links=False).below(videos),
        *_Search(PHOTO_SUFFIXES, elsewhere=videos, follows_links=False).below(photos),
    ]
    sources = [source for source in found if isinstance(source, Source)]
    errors = [error for error in found if isinstance(error, InputError)]
    labels = sorted({source.label for source in sources})
    errors += _alike("labels", labels)
    errors += filter(None, map(_unfit, [*labels, *(source.name for source in sources)]))
    for label in labels:
        errors += _alike(f"takes of label '{label}'", [source.name for source in sources if source.label == label])
    if errors:
        raise combine(errors, "files or folders")
    _refuse_too_few([label for label in labels if label != NONE], videos, photos)
    return sorted(sources, key=lambda source: (source.label, source.name))


def sources_below(folder: Path, suffixes: tuple[str, ...]) -> list[Source]:
    """List the takes of a folder of any kind, sorted by path.

    Files that systems, phones and DVC leave behind (.DS_Store, Thumbs.db, ._clip.mp4 and whatever else starts with a
    dot, IMG_1.AAE, clip.mp4.dvc) are ignored.

    Args:
        folder: Holds a folder for each label. If it does not exist, it has no takes.
        suffixes: Endings of files that can be takes. Where photos are among them, a sub-folder is one take.

    Raises:
        InputError: If a file lies outside a label's folder, a label or a folder in it has no takes, a file is empty, is
            not downloaded yet, cannot be read or has another ending; all of these are told at once.
    """
    found = list(_Search(suffixes).below(folder))
    errors = [error for error in found if isinstance(error, InputError)]
    if errors:
        raise combine(errors, "files or folders")
    return [source for source in found if isinstance(source, Source)]


def is_photo(path: Path) -> bool:
    """Tell by its name whether a file is a photo."""
    return path.suffix.lower() in PHOTO_SUFFIXES


def files_in(folder: Path) -> list[Path]:
    """Return the files of a take that is a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if not _is_ignored(path) and path.is_file())


@dataclass(frozen=True)
class _Search:
    """What is looked for. Its methods yield what is found, and beside it an error for each thing that cannot be used.

    Attributes:
        suffixes: Endings of files that can be takes.
        elsewhere: The data folder where pictures of the other kind belong, if there is one.
        follows_links: Whether folders may be links. DVC sees an empty folder there and misses what comes or goes.
    """

    suffixes: tuple[str, ...]
    elsewhere: Path | None = None
    follows_links: bool = True

    def below(self, folder: Path) -> Iterator[Source | InputError]:
        """Look through a data folder."""
        if os.path.lexists(folder):
            fault = fault_of(folder) or _no_folder(folder)
            yield from [fault] if fault else self._labels(folder)

    def _labels(self, folder: Path) -> Iterator[Source | InputError]:
        entries = list(_entries(folder))
        loose = [path for path in entries if isinstance(path, Path) and path.is_file() and _is_picture(path)]
        for is_own, home in ((True, folder), (False, self.elsewhere or folder)):
            of_kind = [path for path in loose if (path.suffix.lower() in self.suffixes) == is_own]
            if of_kind:
                yield _outside(of_kind, home)
        labels = [path for path in entries if isinstance(path, Path) and path.is_dir()]
        yield from _encoded_twice(labels)
        for path in entries:
            if isinstance(path, InputError):
                yield path
            elif path.is_dir():
                yield from self._label(path)

    def _label(self, label_folder: Path) -> Iterator[Source | InputError]:
        if self._is_bad_link(label_folder):
            yield _linked(label_folder)
            return
        takes = list(self._takes(label_folder))
        if not takes:
            yield self._empty(f"label folder {label_folder}/ holds no takes", self.suffixes)
        label = unicodedata.normalize("NFC", label_folder.name)
        yield from (take if isinstance(take, InputError) else Source(label, take) for take in takes)

    def _takes(self, label_folder: Path) -> Iterator[Path | InputError]:
        for path in _entries(label_folder):
            if isinstance(path, Path) and path.is_dir():
                yield from self._group(path)
            else:
                yield self._checked(path, label_folder)

    def _group(self, folder: Path) -> Iterator[Path | InputError]:
        """Yield a folder if it is a take, or else what keeps it from being one."""
        if not set(PHOTO_SUFFIXES) <= set(self.suffixes):
            yield self._stray(folder, folder.parent)
        elif self._is_bad_link(folder):
            yield _linked(folder)
        else:
            files = [self._checked(path, folder.parent) for path in _entries(folder)]
            errors = [error for error in files if isinstance(error, InputError)]
            yield from errors
            if not files:
                yield self._empty(f"{folder}/ holds no photos", PHOTO_SUFFIXES)
            elif not errors:
                yield folder

    def _checked(self, path: Path | InputError, label_folder: Path) -> Path | InputError:
        """Return a file that can be a take or a part of one, or what is wrong with it."""
        if isinstance(path, InputError):
            return path
        if path.is_dir() or path.suffix.lower() not in self.suffixes:
            return self._stray(path, label_folder)
        return path if path.stat().st_size else _empty_file(path)

    def _stray(self, path: Path, label_folder: Path) -> InputError:
        expected = f"files that end in {' '.join(self.suffixes)}"
        if path.is_dir():
            remedy = f"move the files in it to {label_folder}/, or the folder out of the data folder"
            return InputError(found=f"{path} is a folder", expected=expected, remedy=remedy)
        if _is_picture(path) and self.elsewhere:
            kind = "video" if path.suffix.lower() in VIDEO_SUFFIXES else "photo"
            remedy = f"move {kind}s to {self.elsewhere / label_folder.name}/"
            return InputError(found=f"{path} is a {kind} by its name", expected=expected, remedy=remedy)
        return InputError(
            found=f"{path} is neither video nor photo by its name",
            expected=expected,
            remedy="convert what is neither, or move it out of the data folder",
        )

    def _empty(self, found: str, suffixes: tuple[str, ...]) -> InputError:
        expected = f"takes in it ({' '.join(suffixes)})"
        return InputError(found=found, expected=expected, remedy="put some into the empty folder, or remove it")

    def _is_bad_link(self, folder: Path) -> bool:
        return folder.is_symlink() and not self.follows_links


def _entries(folder: Path) -> Iterator[Path | InputError]:
    """Yield what lies in a folder, sorted, without what file managers, phones and DVC leave behind.

    What cannot be read is told even if it would be ignored: DVC, which hashes the whole folder, fails or waits there.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        yield unreadable(folder, error)
        return
    for path in paths:
        fault = fault_of(path) or (_not_downloaded(path) if _is_placeholder(path) else None)
        if fault:
            yield fault
        elif not _is_ignored(path):
            yield path


def _is_ignored(path: Path) -> bool:
    """Tell whether a file is known to be no picture; a folder is ignored only if it is hidden."""
    name = path.name.lower()
    return name.startswith(".") or name in _JUNK or (name.endswith(SIDECAR_SUFFIXES) and not path.is_dir())


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES + PHOTO_SUFFIXES


def _is_placeholder(path: Path) -> bool:
    """Tell whether iCloud keeps the file itself: .IMG_4.mov.icloud stands for IMG_4.mov."""
    return path.name.startswith(".") and path.suffix.lower() == ".icloud"


def _not_downloaded(path: Path) -> InputError:
    return InputError(
        found=f"{path.parent / path.stem.removeprefix('.')} is not downloaded yet: iCloud left {path.name} there",
        expected="the files themselves",
        remedy="choose Download Now in Finder's menu of the folder and wait, or remove the placeholder",
    )


def _outside(loose: Sequence[Path], home: Path) -> InputError:
    lies = f"{'lies' if len(loose) == 1 else 'lie'} directly under {loose[0].parent}/"
    return InputError(
        found=f"{', '.join(map(str, loose))} {lies}",
        expected=f"{home}/<label>/{loose[0].name}",
        remedy="move what lies outside into a folder named after what it shows",
    )


def _no_folder(folder: Path) -> InputError | None:
    if folder.is_dir():
        return None
    return InputError(
        found=f"{folder} is a file",
        expected="a folder that holds a folder for each label",
        remedy="rename or remove it",
    )


def _linked(folder: Path) -> InputError:
    return InputError(
        found=f"{folder} is a link to the folder {folder.readlink()}",
        expected="a folder: DVC does not look behind a link to one, so takes would come and go there unnoticed",
        remedy="remove the link, and move or copy the folder itself to its place",
    )


def _empty_file(path: Path) -> InputError:
    return InputError(
        found=f"{path} is empty (0 bytes)",
        expected="files with a picture in them",
        remedy="copy the empty file again, or remove it",
    )


def _unfit(name: str) -> InputError | None:
    """Refuse a name that cannot stand in a line of labels.txt, or not in the name of a table."""
    if not all(map(_is_text, name)):
        return InputError(
            found=f"the name {name!a} holds a line break or a control character",
            expected="names that stand in one line of labels.txt",
            remedy="rename what has such a name",
        )
    if len(name.encode()) > _MAX_NAME_BYTES:
        return InputError(
            found=f"the name '{name[:40]}...' has {len(name.encode())} bytes",
            expected=f"at most {_MAX_NAME_BYTES}: tables are called like their take, with an ending",
            remedy="shorten it",
        )
    return None


def _is_text(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Zl", "Zp")


def _alike(what: str, names: Sequence[str]) -> Iterator[InputError]:
    """Yield an error for each name that is the same as another but for case or for how accents are encoded."""
    seen: dict[str, str] = {}
    for name in names:
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in seen:
            way, names = "in case", f"'{seen[folded]}' and '{name}'"
            if name == seen[folded]:
                way, names = "in how accents are encoded", f"two called '{name}'"
            yield InputError(
                found=f"{what} that differ only {way}: {names}",
                expected="names that differ in more, since many file systems (and people) take these for one",
                remedy="merge or rename them",
            )
        seen[folded] = name


def _encoded_twice(folders: Sequence[Path]) -> Iterator[InputError]:
    """Yield an error for each folder whose name is another's, but with accents encoded otherwise."""
    seen: dict[str, str] = {}
    for name in (folder.name for folder in folders):
        other = seen.setdefault(unicodedata.normalize("NFC", name), name)
        if other != name:
            yield InputError(
                found=f"two folders look like '{name}': {other!a} and {name!a}, with accents encoded otherwise",
                expected="one folder for a label",
                remedy=f"move what is in one of them to the other in {folders[0].parent}/, and remove the empty one",
            )


def hidden_pictures(*folders: Path) -> list[Path]:
    """List what a file manager does not show and nobody reads, though it may be meant: hidden folders and takes.

    Returns:
        Hidden folders that hold pictures, and hidden files that are pictures by their names, at the place of a label or
        a take. What macOS lays beside files (`._clip.mp4`) is not among them.
    """
    places = [place for folder in folders if folder.is_dir() for place in (folder, *_folders_in(folder))]
    return [path for place in places for path in sorted(place.iterdir()) if _is_hidden_picture(path)]


def _folders_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]


def _is_hidden_picture(path: Path) -> bool:
    if not path.name.startswith(".") or path.name.startswith("._") or path.name.lower() in _JUNK_FOLDERS:
        return False
    return any(map(_is_picture, path.iterdir())) if path.is_dir() else _is_picture(path)


def _refuse_too_few(labels: Sequence[str], videos: Path, photos: Path) -> None:
    if not labels:
        raise InputError(
            found=f"no videos in {videos}/ and no photos in {photos}/",
            expected="a folder for each label, with takes in it",
            remedy=f"put videos into {videos}/<label>/, at least two labels with three takes each",
        )
    if len(labels) == 1:
        raise InputError(
            found=f"one label only: {labels[0]}",
            expected="at least two labels, since a classifier tells things apart",
            remedy=f"film something else, or just the background, into {videos}/<another label>/",
        )
