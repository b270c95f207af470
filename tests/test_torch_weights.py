"""Weights in torch's old format: read exactly, refused clearly, and never able to run code."""

import hashlib
import io
import os
import pickle
import struct
import sys
import types
from collections import OrderedDict
from unittest import mock

import numpy as np
import pytest

from pipeline.backbones.torch_weights import MAGIC_NUMBER, PROTOCOL_VERSION, read_state_dict, weights_of_package
from pipeline.errors import MissingPackageError, ModelError

FLOATS = np.arange(12, dtype="<f4") / 4
COUNTER = np.array([7], "<i8")


class Storage:
    def __init__(self, key, values, num_values=None, kind=None):
        self.key = key
        self.values = values
        self.num_values = len(values) if num_values is None else num_values
        self.kind = kind or {"<f4": "FloatStorage", "<i8": "LongStorage"}[values.dtype.str]


class Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.arguments: tuple[object, ...] = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return vars(sys.modules["torch._utils"])["_rebuild_tensor_v2"], self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        if isinstance(obj, Storage):
            return "storage", getattr(sys.modules["torch"], obj.kind), obj.key, "cpu", obj.num_values, None
        return None


def torch_modules():
    """Make just enough of torch for pickle to refer to it by name."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "LongStorage", "QUInt8Storage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    rebuild = types.FunctionType((lambda: None).__code__, {"__name__": "torch._utils"})
    rebuild.__name__ = rebuild.__qualname__ = "_rebuild_tensor_v2"
    vars(utils)["_rebuild_tensor_v2"] = rebuild
    return {"torch": torch, "torch._utils": utils}


def file_content(state_dict, storages, *, magic=MAGIC_NUMBER, version=PROTOCOL_VERSION, keys=None):
    file = io.BytesIO()
    system = {"protocol_version": version, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    keys = [storage.key for storage in storages] if keys is None else keys
    with mock.patch.dict(sys.modules, torch_modules()):
        for part in (magic, version, system, state_dict, keys):
            Pickler(file, protocol=2).dump(part)
    for storage in storages:
        file.write(struct.pack("<q", len(storage.values)) + storage.values.tobytes())
    return file.getvalue()


def one_tensor(offset=0, shape=(3, 4), strides=(4, 1)):
    storage = Storage("1", FLOATS)
    return file_content(OrderedDict(weight=Tensor(storage, offset, shape, strides)), [storage])


def refusal(content):
    with pytest.raises(ModelError) as caught:
        read_state_dict(content, "net.pth")
    return str(caught.value)


def test_reads_views_of_shared_storages_in_order():
    floats, counter = Storage("20", FLOATS), Storage("3", COUNTER)
    state_dict = OrderedDict(
        whole=Tensor(floats, 0, (3, 4), (4, 1)),
        counter=Tensor(counter, 0, (), ()),
        transposed=Tensor(floats, 0, (4, 3), (1, 4)),
        corner=Tensor(floats, 6, (2, 2), (4, 1)),
    )
    tensors = read_state_dict(file_content(state_dict, [counter, floats]), "net.pth")
    assert list(tensors) == ["whole", "counter", "transposed", "corner"]
    np.testing.assert_array_equal(tensors["whole"], FLOATS.reshape(3, 4))
    np.testing.assert_array_equal(tensors["transposed"], FLOATS.reshape(3, 4).T)
    np.testing.assert_array_equal(tensors["corner"], [[1.5, 1.75], [2.5, 2.75]])
    assert tensors["counter"].shape == ()
    assert tensors["counter"].dtype == np.int64
    assert tensors["counter"] == 7


def test_tensors_are_copies_that_can_be_written():
    storage = Storage("1", FLOATS)
    state_dict = {"a": Tensor(storage, 0, (12,), (1,)), "b": Tensor(storage, 0, (12,), (1,))}
    tensors = read_state_dict(file_content(state_dict, [storage]), "net.pth")
    tensors["a"][:] = -1
    np.testing.assert_array_equal(tensors["b"], FLOATS)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip file", b"\x80\x02}q\x00.", b"\x00" * 100])
def test_another_format_is_refused(content):
    assert "net.pth" in refusal(content)
    assert "torch's old format" in refusal(content)


@pytest.mark.parametrize("wrong", [{"magic": 1}, {"version": 1000}])
def test_wrong_magic_number_or_version_is_refused(wrong):
    storage = Storage("1", FLOATS)
    content = file_content({"weight": Tensor(storage, 0, (12,), (1,))}, [storage], **wrong)
    assert "net.pth does not begin with that format's magic number and version" in refusal(content)


def test_every_truncation_is_refused():
    content = one_tensor()
    for num_bytes in range(len(content)):
        assert "net.pth" in refusal(content[:num_bytes])
    assert "net.pth is truncated in storage 1" in refusal(content[:-1])
    assert "net.pth cannot be read at byte" in refusal(content[:300])


@pytest.mark.parametrize("value", [0x00, 0x2E, 0x52, 0x80, 0xFF])  # among them the opcodes STOP, REDUCE and PROTO
def test_a_damaged_byte_never_raises_anything_else(value):
    content = one_tensor()
    num_refused = 0
    for position in range(len(content)):
        try:
            read_state_dict(content[:position] + bytes([value]) + content[position + 1 :], "net.pth")
        except ModelError:
            num_refused += 1
    assert num_refused > len(content) / 2


def test_trailing_bytes_are_refused():
    assert "net.pth has 3 bytes after its last value" in refusal(one_tensor() + b"abc")


@pytest.mark.parametrize("position", ["first pickle", "state dict"])
def test_code_in_the_file_does_not_run(tmp_path, position):
    trace = tmp_path / "code-ran"

    class Evil:
        def __reduce__(self):
            return os.system, (f"echo > '{trace}'",)

    content = file_content(Evil(), [], magic=MAGIC_NUMBER if position == "state dict" else Evil())
    message = refusal(content)
    assert f"net.pth asks for the Python object {os.system.__module__}.system" in message
    assert "only collections.OrderedDict" in message
    assert not trace.exists()

    pickle.loads(pickle.dumps(Evil()))  # the attack is real: a plain unpickler falls for it
    assert trace.exists()


@pytest.mark.parametrize("function", [eval, getattr, __import__, pickle.loads, np.frombuffer])
def test_any_other_global_is_refused_by_name(function):
    message = refusal(file_content({"weight": function}, []))
    assert f".{function.__name__}, which could run code" in message


def test_an_unknown_storage_type_is_refused():
    storage = Storage("1", FLOATS, kind="QUInt8Storage")
    content = file_content({"weight": Tensor(storage, 0, (12,), (1,))}, [storage])
    assert "torch.QUInt8Storage" in refusal(content)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (1, (3, 4), (4, 1)),  # one value too far
        (0, (3, 4), (5, 1)),
        (12, (1,), (1,)),
        (0, (2,), (2**60,)),
        (0, (2**40,), (0,)),  # inside, but a copy would take all memory
        (0, (0,), (1,)),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(offset, shape, strides):
    message = refusal(one_tensor(offset, shape, strides))
    assert f"tensor weight with offset {offset}, shape {shape} and strides {strides} is not in 12 values" in message


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (-1, (3,), (1,)),
        (0, (-3,), (1,)),
        (11, (3,), (-1,)),
        (0, (3, 4), (1,)),
        (0.0, (3,), (1,)),
        (0, [3], (1,)),
        (0, ("3",), (1,)),
    ],
)
def test_a_tensor_of_senseless_numbers_is_refused(offset, shape, strides):
    message = refusal(one_tensor(offset, shape, strides))
    assert f"a tensor with offset {offset}, shape {shape} and strides {strides}" in message


def test_a_persistent_id_that_is_no_storage_is_refused():
    class Strange(Pickler):
        def persistent_id(self, obj):
            return ("module", "x") if obj == "ref" else None

    content = file_content({}, [])
    file = io.BytesIO()
    Strange(file, protocol=2).dump({"weight": "ref"})
    start = content.index(b"\x80\x02}q\x00.")  # the empty state dict
    assert "the persistent id ('module', 'x')" in refusal(content[:start] + file.getvalue())


def test_what_is_no_state_dict_is_refused():
    assert "net.pth holds a list and not a state dict" in refusal(file_content([1, 2], []))
    assert "net.pth holds a int called 'epoch' and not a tensor" in refusal(file_content({"epoch": 3}, []))


@pytest.mark.parametrize("keys", [[], ["2"], ["1", "1"], ["1", "2"], {"1": 1}])
def test_a_list_of_storages_that_does_not_fit_is_refused(keys):
    storage = Storage("1", FLOATS)
    content = file_content({"weight": Tensor(storage, 0, (12,), (1,))}, [storage], keys=keys)
    assert f"net.pth lists the storages {keys}, its tensors need ['1']" in refusal(content)


@pytest.mark.parametrize("num_values", [11, 13, -1])
def test_a_storage_of_another_length_is_refused(num_values):
    storage = Storage("1", FLOATS, num_values=num_values)
    content = file_content({"weight": Tensor(storage, 0, (2,), (1,))}, [storage])
    assert f"net.pth gives storage 1 12 values, its state dict {num_values}" in refusal(content)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package that must not be imported."""
    folder = tmp_path / "tiny_weights" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "tiny.pth").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_weights_of_a_package_without_importing_it(package):
    assert weights_of_package("tiny_weights", hashlib.sha256(b"weights").hexdigest()) == b"weights"
    assert "tiny_weights" not in sys.modules


def test_other_weights_than_configured_are_refused(package):
    with pytest.raises(ModelError) as caught:
        weights_of_package("tiny_weights", "0" * 64)
    assert f"tiny.pth has SHA-256 {hashlib.sha256(b'weights').hexdigest()}" in caught.value.found
    assert "0" * 64 in caught.value.expected
    assert "pip install --force-reinstall --no-cache-dir tiny-weights" in caught.value.remedy


@pytest.mark.parametrize("name", ["no_such_weights", "os.path", ""])
def test_a_missing_package_comes_with_the_command_that_installs_it(name):
    with pytest.raises(MissingPackageError, match="no installed package") as caught:
        weights_of_package(name, "0" * 64)
    assert repr(name) in caught.value.found
    assert caught.value.remedy == f"pip install {name.replace('_', '-')}"


def test_a_package_must_hold_exactly_one_file(package):
    (package / "second.pth").write_bytes(b"more")
    with pytest.raises(ModelError, match=r"2 files models/\*\.pth in package tiny_weights"):
        weights_of_package("tiny_weights", "0" * 64)
    with pytest.raises(ModelError, match=r"0 files models/\*\.pth in package hashlib"):
        weights_of_package("hashlib", "0" * 64)
