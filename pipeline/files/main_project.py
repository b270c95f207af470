"""Finds the project that a copy was made from, so that copies share its take cache."""

from pathlib import Path

_EXPERIMENTS = (".dvc", "tmp", "exps")


def main_project(project: Path) -> Path:
    """Return the project of which this one is a temporary or a second checkout, or this one itself.

    Args:
        project: Absolute path of the project's folder.

    Returns:
        For a checkout in which DVC runs an experiment (`dvc queue start`, `dvc exp run --temp`): the project in whose
        .dvc/tmp/exps/ it lies. For a worktree of Git: the folder at the same place in the main worktree. Only folders
        that hold a dvc.yaml are taken for projects.
    """
    for find in (outside_experiments, _in_main_worktree):
        found = find(project)
        if found is not None and (found / "dvc.yaml").is_file():
            project = found
    return project


def outside_experiments(project: Path) -> Path | None:
    """Return the folder that holds the .dvc/tmp/exps in which a project lies; None if it lies in none."""
    parts = project.parts
    for index in range(1, len(parts) - len(_EXPERIMENTS)):
        if parts[index : index + len(_EXPERIMENTS)] == _EXPERIMENTS:
            return Path(*parts[:index])
    return None


def _in_main_worktree(project: Path) -> Path | None:
    """Return the folder at a project's place in the main worktree of its Git repository.

    A second worktree has a file `.git` that names a folder, in which the file `commondir` names the repository. (A
    submodule has the former without the latter.)
    """
    for top in (project, *project.parents):
        pointer = top / ".git"
        if pointer.is_dir():
            return None
        if pointer.is_file():
            folder = top / pointer.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
            common = folder / "commondir"
            if not common.is_file():
                return None
            repository = (folder / common.read_text(encoding="utf-8").strip()).resolve()
            return repository.parent / project.relative_to(top) if repository.name == ".git" else None
    return None
