"""Removes what can be made again: what `dvc repro` brings back, or, on request, all that is not a person's own."""

import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dvc.repo import Repo  # type: ignore[import-untyped]

from pipeline.files import layout

# Beside the stages' results; not data/, weights/ or the environment, and not DVC's cache (`dvc gc`).
_MORE: Mapping[Path, str] = {
    layout.DEPLOYED: "the model for your app",
    layout.DEPLOYED.parent: "models of schemes that are off the list, models/{pretrained,trainable,federated}, pages",
    layout.PICTURES.parent: "tables and pictures of sweeps and searches, the report",
    layout.TENSORBOARD: "logs for TensorBoard",
    Path(".cache"): "the take cache, the search's trials",
}


@dataclass(frozen=True)
class Removal:
    """Something to remove.

    Attributes:
        path: Relative to the project's folder.
        what: What it is, in words.
        files: Those in it that may go: what Git tracks, and what DVC leaves to Git, stays.
    """

    path: Path
    what: str
    files: tuple[Path, ...]

    def __str__(self) -> str:
        """Tell path, size and meaning."""
        num_bytes = sum(file.lstat().st_size for file in self.files)
        return f"{self.path}: {num_bytes / 1e6:,.1f} MB, {self.what}"


def removals(*, everything: bool) -> list[Removal]:
    """List what is there and may go.

    Args:
        everything: Not only what `dvc repro` brings back.
    """
    brought_back, of_git = _outputs()
    what = dict.fromkeys(sorted(brought_back - {layout.DEPLOYED}), "`dvc repro` brings it back")
    what |= _MORE if everything else {}
    kept, found = of_git | _tracked(), []
    seen: set[Path] = set()
    for path, meaning in what.items():
        files = tuple(file for file in _files(path) if file not in kept and file not in seen)
        seen.update(files)
        if files:
            found.append(Removal(path, meaning, files))
    return found


def remove(removal: Removal) -> None:
    """Remove files, and the folders that they leave empty."""
    for file in removal.files:
        file.unlink()
    folders = {folder for file in removal.files for folder in file.parents if folder.is_relative_to(removal.path)}
    for folder in sorted(folders, reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def _outputs() -> tuple[set[Path], set[Path]]:
    """Return what the stages in dvc.yaml write: what DVC keeps, and what it leaves to Git."""
    with Repo() as repo:
        outs = [out for stage in repo.index.stages if not stage.is_data_source for out in stage.outs]
        paths = {Path(out.fs_path).relative_to(repo.root_dir): out.use_cache for out in outs}
    return {path for path, is_cached in paths.items() if is_cached}, {path for path in paths if not paths[path]}


def _tracked() -> set[Path]:
    """Return the files that Git tracks here; none outside a repository."""
    git = shutil.which("git")
    if git is None:
        return set()
    listed = subprocess.run([git, "ls-files", "-z"], capture_output=True, encoding="utf-8", check=False).stdout
    return {Path(name) for name in listed.split("\0") if name}


def _files(path: Path) -> Iterator[Path]:
    """Yield a file, or those in a folder; a link is one, whatever it leads to."""
    if path.is_symlink() or path.is_file():
        yield path
    elif path.is_dir():
        for child in sorted(path.iterdir()):
            yield from _files(child)


def total_megabytes(found: Collection[Removal]) -> float:
    """Return the size of all that is listed."""
    return sum(file.lstat().st_size for removal in found for file in removal.files) / 1e6
