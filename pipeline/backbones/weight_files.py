"""Weights from files: Keras' own formats and safetensors. None of them can run code when it is read here."""

import warnings
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from pipeline.backbones import applications
from pipeline.backbones.quiet_tensorflow import keras
from pipeline.errors import ModelError

KERAS_SUFFIXES = (".h5", ".hdf5")
SAFETENSORS_SUFFIX = ".safetensors"


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


def _tensor(tensors: dict[str, np.ndarray], key: str, shape: tuple[int, ...], path: Path) -> np.ndarray:
    if key not in tensors:
        raise unfit(path, f"there is no {key}")
    if tensors[key].shape != shape:
        raise unfit(path, f"{key} has shape {tensors[key].shape}, the layer needs {shape}")
    return tensors[key]
