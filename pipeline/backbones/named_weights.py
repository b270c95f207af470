"""Finds the weights that a backbone's file names, without reading them: the stage `check` does that first of all."""

from importlib.util import find_spec
from pathlib import Path

from pipeline.config.backbone import BackboneConfig
from pipeline.config.backbone_names import file_of
from pipeline.errors import MissingPackageError, ModelError
from pipeline.files import sha256_of_bytes, sha256_of_file
from pipeline.files.main_project import main_project

KEYWORDS = ("package", "imagenet", "random")  # every other value of `weights` is a path


def check_named(config: BackboneConfig) -> None:
    """Make sure that the weights can be had: a package is installed, a path is there. What they hold is not looked at.

    Raises:
        ModelError: If there is nothing at the path.
        MissingPackageError: If the package is not installed.
    """
    if config.weights == "package" and find_spec(config.weights_package) is None:
        raise MissingPackageError(
            found=f"weights_package: {config.weights_package} in {file_of(config.name)}, which is not installed",
            expected="the package that brings the weights",
            remedy="run `make setup`, or correct weights_package in that file",
        )
    if config.weights not in KEYWORDS:
        find_path(config)


def checked_path(config: BackboneConfig) -> Path:
    """Return the file or folder that `weights` names, if it is the one that weights_sha256 means.

    The hash stands in conf/backbone/, which DVC tracks: so other weights under the same name can never pass for those
    that results were made with, and weights outside the project are tracked like those inside.

    Raises:
        ModelError: There is nothing at the path, or its hash is another one.
    """
    path = find_path(config)
    found = sha256_of_file(path) if path.is_file() else sha256_of_folder(path)
    if found != config.weights_sha256:
        raise ModelError(
            found=f"{path} has SHA-256 {found}",
            expected=f"{config.weights_sha256 or 'its SHA-256'} as weights_sha256 in {file_of(config.name)}",
            remedy=f"if these are the weights you want, write weights_sha256: {found} there",
        )
    return path


def sha256_of_folder(folder: Path) -> str:
    """Return one hash for the names and contents of all files in a folder, as 64 hexadecimal digits."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{sha256_of_file(path)} {path.relative_to(folder).as_posix()}\n" for path in files]
    return sha256_of_bytes("".join(lines).encode())


def find_path(config: BackboneConfig) -> Path:
    """Return the path, which is relative to the project, also in the copies in which DVC runs experiments.

    Raises:
        ModelError: There is nothing.
    """
    here = Path.cwd()
    for folder in (here, main_project(here)):
        path = folder / Path(config.weights).expanduser()
        if path.exists():
            return path
    raise ModelError(
        found=f"weights: {config.weights} in {file_of(config.name)}, and nothing there",
        expected="`package`, `imagenet`, `random`, or the path of a file relative to the project's folder",
        remedy=f"put the file there{f' (see {config.source})' if config.source else ''}, or correct the path",
    )
