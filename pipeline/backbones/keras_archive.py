"""Looks into a .keras file before Keras does: whether it is made of Keras' own layers alone, and which may do harm.

A .keras file is a zip; config.json in it names the class of every layer, initializer and function. Keras' safe mode
refuses what would run code, too, one thing at a time and in words about itself; here all is told that must go.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.backbones.quiet_tensorflow import keras
from pipeline.errors import ModelError

_CONFIG_FILE = "config.json"
_MODULES = ("layers", "models", "initializers", "regularizers", "constraints", "activations", "dtype_policies", "ops")
_FUNCTION = "function"  # of the module "builtins" if it is given by its name alone, such as "relu"
# Layers that run what somebody else wrote, or read files that the model names.
_UNSAFE = (
    *("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"),
    *("StringLookup", "IntegerLookup", "TextVectorization"),
)
_UNSAFE_DATA = {"__lambda__": "Lambda", "__typespec__": "a type of TensorFlow"}


def check_keras_archive(path: Path) -> None:
    """Refuse a .keras file with layers that run code, or that are not Keras' own; nothing is loaded or run for that.

    Raises:
        ModelError: It has such layers, they are named; or it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read(_CONFIG_FILE))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ModelError(
            found=f"{path} is no .keras file: {error}",
            expected=f"the file that `model.save` of Keras 3 writes, whole, with {_CONFIG_FILE} in it",
            remedy="save it again, or correct `weights` in conf/backbone/",
        ) from error
    if isinstance(config, dict):
        config["compile_config"] = None  # of the training that made it; not used
    refused = dict.fromkeys(name for entry in _entries(config) for name in _refused(entry))
    if refused:
        raise ModelError(
            found=f"{path} has {', '.join(refused)}; nothing of it was run",
            expected="a model built of Keras' own layers without Lambda and others that run code or read files",
            remedy="replace them by layers of Keras (Rescaling, Normalization, keras.ops), or export the model with"
            " `model.export(folder)` and name that folder",
        )


def _entries(value: Any) -> Iterator[dict[str, Any]]:
    """Yield everything in a configuration that names a class or a function, however deep it lies."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        for inner in value.values():
            yield from _entries(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(inner)


def _refused(entry: dict[str, Any]) -> Iterator[str]:
    """Yield what is to be told of an entry, if anything is."""
    name, module = str(entry["class_name"]), entry.get("module")
    if name in _UNSAFE_DATA:
        yield _UNSAFE_DATA[name]
    elif name in _UNSAFE:
        yield f"the layer {name}"
    elif name == _FUNCTION and module == "builtins":
        if not any(hasattr(getattr(keras, group), str(entry.get("config"))) for group in _MODULES):
            yield f"{entry.get('config')}, which is not Keras' own"
    elif not name.startswith("__") and not _is_of_keras(str(module)):
        told = entry.get("config") if name == _FUNCTION else entry.get("registered_name") or name
        yield f"{told}, which is not Keras' own"


def _is_of_keras(module: str) -> bool:
    group = module.removeprefix("keras.src.").removeprefix("keras.").partition(".")[0]
    return module == "keras" or (module.startswith("keras.") and group in _MODULES)
