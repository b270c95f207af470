"""Weights from files: Keras' own formats and safetensors. None of them can run code when it is read here."""

import warnings
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from pipeline.backbones import applications
from pipeline.backbones.quiet_tensorflow import keras
from pipeline.config.backbone import BackboneConfig
from pipeline.config.backbone_names import file_of
from pipeline.errors import ModelError
from pipeline.files import sha256_of_bytes, sha256_of_file
from pipeline.takes.main_project import main_project

KERAS_SUFFIXES = (".h5", ".hdf5")
SAFETENSORS_SUFFIX = ".safetensors"


def checked_path(config: BackboneConfig) -> Path:
    """Return the file or folder that `weights` names, if it is the one that weights_sha256 means.

    The hash stands in conf/backbone/, which DVC tracks: so other weights under the same name can never pass for those
    that results were made with, and weights outside the project are tracked like those inside.

    Raises:
        ModelError: There is nothing at the path, or its hash is another one.
    """
    path = _find(config)
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


def load_keras_weights(model: keras.Model, path: Path) -> None:
    """Load a .weights.h5 file of Keras 3, or an .h5 file such as Keras Applications publishes (without the top).

    Args:
        model: The network as Keras builds it.
        path: The file; it is HDF5, which holds arrays and names.

    Raises:
        ModelError: The file is damaged, or the weights are those of another network; the layer is named.
    """
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            model.load_weights(str(path))
    except Exception as error:  # garbage raises almost anything: OSError, KeyError, ValueError, ...
        raise unfit(path, " ".join(str(error).split())) from error
    if warned:  # Keras goes on with layers that it could not load
        raise unfit(path, " ".join(str(warned[0].message).split()))


def load_safetensors(model: keras.Model, path: Path) -> None:
    """Load tensors by Keras' names of variables, `conv1/kernel`, as in a process that has built nothing else.

    Args:
        model: The network as Keras builds it.
        path: A .safetensors file. Tensors for layers that only normalize the picture are not needed, nor used.

    Raises:
        ModelError: The file is damaged, a variable finds no tensor of its shape, or a tensor finds no variable.
    """
    tensors = read_safetensors(path)
    ignored = set()
    for name, layer in applications.leaves(model).items():
        keys = [f"{name}/{variable.name}" for variable in layer.weights]
        if isinstance(layer, keras.layers.Normalization):
            ignored |= set(keys)
            continue
        shapes = [tuple(variable.shape) for variable in layer.weights]
        layer.set_weights([_tensor(tensors, key, shape, path) for key, shape in zip(keys, shapes, strict=True)])
        ignored |= set(keys)
    unused = sorted(set(tensors) - ignored)
    if unused:
        raise unfit(path, f"no layer takes {', '.join(unused[:5])}")


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read all tensors of a .safetensors file.

    Raises:
        ModelError: The file is damaged, or holds a type that NumPy lacks (bfloat16).
    """
    try:
        tensors: dict[str, np.ndarray] = load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise unfit(path, str(error)) from error
    return tensors


def unfit(path: Path, reason: str) -> ModelError:
    """Return the error for a file that is damaged or does not fit."""
    return ModelError(
        found=f"{path}: {reason}",
        expected="the whole file with the weights of this very architecture, without its classifier",
        remedy="get the file again from where it came from, or make family, application, width and depth in"
        " conf/backbone/ those that the weights were trained with",
    )


def _find(config: BackboneConfig) -> Path:
    """Return the path, which is relative to the project, also in the copies in which DVC runs experiments."""
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


def _tensor(tensors: dict[str, np.ndarray], key: str, shape: tuple[int, ...], path: Path) -> np.ndarray:
    if key not in tensors:
        raise unfit(path, f"there is no {key}")
    if tensors[key].shape != shape:
        raise unfit(path, f"{key} has shape {tensors[key].shape}, the layer needs {shape}")
    return tensors[key]
