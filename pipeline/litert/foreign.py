"""What there is to ask of a classifier that the project did not make: its labels, and what its outputs are."""

import io
import zipfile
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.litert.flatbuffer import operator_name, read_model
from pipeline.litert.interpreter import load_interpreter
from pipeline.litert.runtimes import Signature, signature
from pipeline.metrics.probabilities import SLICED_SOFTMAX, SOFTMAX

_SLICES = ("SLICE", "STRIDED_SLICE")
_CHANGES_NO_VALUE = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE")


def read_classifier(path: Path) -> tuple[bytes, Signature]:
    """Read a .tflite file, and what it takes and gives.

    Raises:
        ModelError: If it cannot be read, is no TensorFlow Lite model, or no picture classifier that LiteRT runs.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, f"cannot be read ({error.strerror})", "check the path") from error
    if content[4:8] != b"TFL3":
        remedy = "convert the model to TensorFlow Lite first"
        raise _unreadable(path, f"is no TensorFlow Lite model: it begins with {content[:8]!r}", remedy)
    try:
        load_interpreter(content, 1)
    except ModelError as error:
        remedy = "convert it again with built-in operators only, or fetch the file again"
        raise _unreadable(path, f"does not load: {error.found}", remedy) from error
    return content, signature(content)


def embedded_labels(content: bytes) -> list[str] | None:
    """Return the labels in a model's metadata, whatever their file is called; None if there is not one such file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in archive.namelist() if name.endswith(".txt")]
            return archive.read(names[0]).decode().splitlines() if len(names) == 1 else None
    except zipfile.BadZipFile:
        return None


def output_operator(content: bytes) -> str:
    """Return the name of the operator that makes the output's values, such as `SOFTMAX`.

    Operators that only store values in another way are passed over. Empty for a model of several graphs. A softmax of
    which a part is given is `SLICED_SOFTMAX`.
    """
    try:
        model = read_model(content)
    except ModelError:
        return ""
    graph = model.subgraphs[0]
    makers = {int(output): operator for operator in graph.operators for output in operator.outputs}

    def maker(tensor: int) -> tuple[Any, str]:
        operator = makers.get(tensor)
        while operator is not None and operator_name(model, operator) in _CHANGES_NO_VALUE:
            operator = makers.get(int(operator.inputs[0]))
        return operator, "" if operator is None else operator_name(model, operator)

    operator, name = maker(int(graph.outputs[0]))
    is_part = name in _SLICES and maker(int(operator.inputs[0]))[1] == SOFTMAX
    return SLICED_SOFTMAX if is_part else name


def _unreadable(path: Path, what: str, remedy: str) -> ModelError:
    return ModelError(found=f"{path} {what}", expected="a .tflite file that LiteRT can run", remedy=remedy)
