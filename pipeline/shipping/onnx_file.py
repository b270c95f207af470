"""Writes a classifier as ONNX (https://onnx.ai), and runs it. The only importer of tf2onnx and onnxruntime.

tf2onnx translates the operators of the .tflite file one by one. The weights stay the same numbers.
"""

import logging
import tempfile
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import MissingPackageError, ModelError
from pipeline.files import write_bytes
from pipeline.litert.flatbuffer import read_model, write_model
from pipeline.processes.silence import silenced

INPUT = "image"
OPSET = 18  # onnxruntime knows it since 1.14
_REMEDY = "choose another backbone: docs/pages/onnx.md tells which ones were tried"


def to_onnx(content: bytes, outputs: Collection[str], about: Mapping[str, str]) -> bytes:
    """Return a classifier as an ONNX file.

    Args:
        content: A .tflite file in float32 from uint8 or float32 [1, p, p, 3].
        outputs: What its outputs are to be called, in their order.
        about: Entries for the file's metadata.

    Returns:
        The file. Its input is called `image`, unless a head is, and takes what the .tflite file takes. Equal arguments
        give equal answers, but not equal bytes: tf2onnx orders nodes as Python orders sets, which changes from process
        to process.

    Raises:
        MissingPackageError: If tf2onnx is not installed.
        ModelError: If it cannot translate the model.
    """
    convert = _tf2onnx()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.tflite"
        write_bytes(source, _with_unique_names(content, outputs))
        try:
            with silenced(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # TensorFlow's interpreter, which reads the shapes, is deprecated
                model, _ = convert.from_tflite(str(source), opset=OPSET)
        except Exception as error:  # whatever its translators stumble over: KeyError, ValueError, IndexError
            raise ModelError(
                found=f"tf2onnx cannot translate the model ({type(error).__name__}: {error})",
                expected="operators that tf2onnx knows, in float32",
                remedy=_REMEDY,
            ) from error
    for key, value in about.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    model.graph.name, model.producer_name = "viewfinder", "viewfinder"
    return bytes(model.SerializeToString(deterministic=True))


class OnnxModel:
    """An ONNX file in onnxruntime, on this machine's processor."""

    def __init__(self, content: bytes) -> None:
        """Load a file.

        Raises:
            MissingPackageError: If onnxruntime is not installed.
            ModelError: If it is no valid ONNX.
        """
        runtime = _onnxruntime()
        try:
            self._session: Any = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common class
            raise ModelError(
                found=f"onnxruntime cannot load what tf2onnx made ({' '.join(str(error).split())})",
                expected="a graph of ONNX's own operators",
                remedy=_REMEDY,
            ) from error
        (self._input,) = self._session.get_inputs()

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs, in their order."""
        return [output.name for output in self._session.get_outputs()]

    def __call__(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Run the model.

        Args:
            picture: uint8 [p, p, 3], RGB, 0..255.

        Returns:
            float32 [num_outputs]: the outputs one behind the other.
        """
        dtype = np.float32 if self._input.type == "tensor(float)" else np.uint8
        answers = self._session.run(None, {self._input.name: picture[np.newaxis].astype(dtype)})
        return np.concatenate([answer[0] for answer in answers])


def _with_unique_names(content: bytes, outputs: Collection[str]) -> bytes:
    """Name the ends of a graph, and let no two tensors have one name: tf2onnx knows them by it, LiteRT by number."""
    model = read_model(content)
    graph = model.subgraphs[0]
    wanted = dict(zip(map(int, graph.outputs), outputs, strict=True)) | {int(graph.inputs[0]): INPUT}
    taken = set[str]()
    for index in dict.fromkeys([*wanted, *range(len(graph.tensors))]):
        tensor = graph.tensors[index]
        name = wanted.get(index) or (tensor.name or b"").decode(errors="replace")
        tensor.name = (name if name and name not in taken else f"{name}#{index}").encode()
        taken.add(tensor.name.decode())
    model.signatureDefs = []  # they give the ends other names
    return write_model(model)


def _tf2onnx() -> Any:
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # what it cannot translate is told by an error
    from pipeline.backbones.quiet_tensorflow import tensorflow  # noqa: F401, PLC0415 - tf2onnx imports it, loudly

    try:
        from tf2onnx import convert  # noqa: PLC0415 - not installed everywhere
    except ImportError as error:
        raise _missing("tf2onnx", error) from error
    return convert


def _onnxruntime() -> Any:
    try:
        import onnxruntime  # noqa: PLC0415 - not installed everywhere
    except ImportError as error:
        raise _missing("onnxruntime", error) from error
    return onnxruntime


def _missing(name: str, error: ImportError) -> MissingPackageError:
    return MissingPackageError(
        found=f"{name} cannot be imported ({error})",
        expected="the Python packages tf2onnx and onnxruntime, which write ONNX files and run them",
        remedy='pip install ".[onnx]"',
    )
