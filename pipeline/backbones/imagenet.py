"""ImageNet weights as Keras Applications publishes them: fetched once, kept in the project's cache.

They lie in .cache/weights of the main project, which experiments and other worktrees share. A file appears there whole
or not at all, so what lies there is used without a network; one that was put there by hand is as good.
"""

import contextlib
import hashlib
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from pipeline.backbones.quiet_tensorflow import keras
from pipeline.config.backbone import BackboneConfig
from pipeline.config.backbone_names import file_of
from pipeline.config.plain import CONF_FOLDER
from pipeline.errors import ConfigurationError, ModelError
from pipeline.files.os_errors import telling_full_disk
from pipeline.takes.main_project import main_project

_TIMEOUT_SECONDS = 30.0  # without an answer; Keras would wait for ever
_MD5_DIGITS = 32


def imagenet_weights(config: BackboneConfig) -> Path:
    """Return the file with a backbone's ImageNet weights, fetched if it is not there.

    Args:
        config: weights_url and weights_hashes say what to fetch; the width must be a published one. For an input size
            that has no weights of its own those of the next larger one are taken.

    Raises:
        ConfigurationError: There are no such weights.
        ModelError: The file cannot be fetched, or it is not what its authors published.
        FullDiskError: There is no room for it.
    """
    url = weights_url(config)
    path = weights_folder() / url.rpartition("/")[2]
    if path.is_file() and _is_published(path, config.weights_hashes):
        return path
    sys.stderr.write(f"backbone: fetching {url}\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder, telling_full_disk(path):
        fetched = _fetched(url, Path(folder), path, config)
        if not _is_published(fetched, config.weights_hashes):
            raise ModelError(
                found=f"what {url} gave is not the file that its authors published ({fetched.stat().st_size} bytes)",
                expected=f"a file with one of the hashes {', '.join(config.weights_hashes)}",
                remedy="try again; if a proxy answers in the server's place, put the right file at "
                f"{path}; if the authors published anew, correct weights_hashes in {file_of(config.name)}",
            )
        fetched.replace(path)
    return path


def weights_folder() -> Path:
    """Return where fetched weights are kept."""
    return main_project(Path.cwd()) / ".cache/weights"


def weights_url(config: BackboneConfig) -> str:
    """Return the address of the weights for a backbone's width and input size.

    Raises:
        ConfigurationError: None are published for this architecture or width.
    """
    if not config.weights_url or (config.widths and config.width not in config.widths):
        raise ConfigurationError(
            found=f"weights: imagenet in {file_of(config.name)}, with width {config.width}",
            expected=f"one of the widths {config.widths}" if config.weights_url else "a weights_url to fetch them from",
            remedy="choose one of them" if config.weights_url else "name a file of your own as `weights`",
        )
    digits = f"{config.width:.2f}".replace(".", "")  # Keras' name for a width: 1_0, 7_5, 5_0, 2_5
    return config.weights_url.format(
        width=float(config.width),
        width_digits="1_0" if config.width == 1 else f"{digits[1]}_{digits[2]}",
        pixels=_published_pixels(config),
    )


def _published_pixels(config: BackboneConfig) -> int:
    larger = [pixels for pixels in config.resolutions if pixels >= config.input_pixels]
    return min(larger, default=max(config.resolutions, default=config.input_pixels))


def _fetched(url: str, folder: Path, path: Path, config: BackboneConfig) -> Path:
    try:
        with _timeout(_TIMEOUT_SECONDS):
            return Path(keras.utils.get_file(path.name, url, cache_dir=folder, cache_subdir=""))
    except OSError as error:
        if error.errno is not None and not isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
            raise
        raise _not_fetched(url, path, config, error) from error
    except Exception as error:  # Keras wraps what the server answers in a bare Exception
        raise _not_fetched(url, path, config, error) from error


def _not_fetched(url: str, path: Path, config: BackboneConfig, error: Exception) -> ModelError:
    return ModelError(
        found=f"the ImageNet weights of {config.name} are not here, and cannot be fetched from {url} ({error})",
        expected="a network, or the file in the project's cache",
        remedy=f"fetch that address on any machine and put the file at {path}; or choose a backbone whose weights come"
        f" as a Python package ({', '.join(_without_download())})",
    )


def _without_download() -> list[str]:
    """Return the choices of conf/backbone/ whose weights are installed with the project."""
    files = sorted((CONF_FOLDER / "backbone").glob("*.yaml"))
    return [file.stem for file in files if yaml.safe_load(file.read_text(encoding="utf-8"))["weights"] == "package"]


def _is_published(path: Path, hashes: list[str]) -> bool:
    """Tell whether a file has one of the hashes, MD5 or SHA-256; any has if none is known."""
    return not hashes or any(_digest(path, len(expected)) == expected for expected in hashes)


def _digest(path: Path, num_digits: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5" if num_digits == _MD5_DIGITS else "sha256").hexdigest()


@contextlib.contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Let connections fail that give no answer."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
