"""What takes hold, file by file: a hash for each take, and no content in two of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError, PipelineError, combine
from pipeline.files import sha256_of_file
from pipeline.files.faults import unreadable
from pipeline.takes.hashes import sha256_of_take
from pipeline.takes.sources import Source


@dataclass(frozen=True)
class Content:
    """The hashes of a take's files.

    Attributes:
        files: SHA-256 of each file's content, in the order of their names; one for a video or a single photo.
        is_folder: Whether the take is a folder of photos.
    """

    files: Mapping[Path, str]
    is_folder: bool

    @property
    def sha256(self) -> str:
        """Return the take's hash."""
        return sha256_of_take(self.files.values(), is_folder=self.is_folder)

    @property
    def repeated(self) -> list[list[Path]]:
        """Return the files of each content that the take holds more than once."""
        return [paths for paths in _by_hash(self.files.items()).values() if len(paths) > 1]


def files_of(sources: Iterable[Source]) -> list[tuple[Source, Path]]:
    """Return each file of each take, in their order."""
    return [(source, file) for source in sources for file in source.files]


def read_contents(files: Iterable[tuple[Source, Path]]) -> dict[Source, Content]:
    """Hash each file once.

    Args:
        files: What `files_of` returns, perhaps behind a progress bar.

    Raises:
        InputError: If files cannot be read; all of them are named.
    """
    hashes, errors = dict[Source, dict[Path, str]](), list[PipelineError]()
    for source, file in files:
        try:
            hashes.setdefault(source, {})[file] = sha256_of_file(file)
        except OSError as error:
            errors.append(unreadable(file, error))
    if errors:
        raise combine(errors, "files")
    return {source: Content(found, source.path.is_dir()) for source, found in hashes.items()}


def sha256_of_source(path: Path) -> str:
    """Hash a take's content as `Content.sha256` does.

    Raises:
        InputError: If a file cannot be read.
    """
    (content,) = read_contents(files_of([Source("", path)])).values()
    return content.sha256


def refuse_twins(contents: Mapping[Source, Content]) -> None:
    """Raise InputError if one file's content stands in more than one take, however these are nested.

    It would be trained on and tested on, or bear two labels. Takes that share many files are told once.
    """
    takes_of_hash: dict[str, dict[Source, Path]] = {}
    for source, content in contents.items():
        for path, sha256 in content.files.items():
            takes_of_hash.setdefault(sha256, {}).setdefault(source, path)
    shared: dict[tuple[Source, ...], list[Sequence[Path]]] = {}
    for takes in takes_of_hash.values():
        if len(takes) > 1:
            shared.setdefault(tuple(takes), []).append(list(takes.values()))
    if shared:
        raise combine([_twins(contents_of_group) for contents_of_group in shared.values()], "groups of takes")


def _twins(contents: Sequence[Sequence[Path]]) -> InputError:
    """Return the error for takes that share some contents; each is given by one file of each take."""
    more = f", and {len(contents) - 1} more that they share" if len(contents) > 1 else ""
    return InputError(
        found=f"the same content more than once: {', '.join(map(str, contents[0]))}{more}",
        expected="each video and each photo in one take, under one label",
        remedy="delete all but one of them",
    )


def _by_hash(files: Iterable[tuple[Path, str]]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path, sha256 in files:
        found.setdefault(sha256, []).append(path)
    return found
