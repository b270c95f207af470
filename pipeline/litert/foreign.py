"""What there is to ask of a classifier that the project did not make: its labels, and what its outputs are."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ModelError
from pipeline.litert.flatbuffer import operator_name, read_model
from pipeline.litert.interpreter import load_interpreter
from pipeline.litert.metadata import FIRST_OUTPUT, read_outputs, read_threshold
from pipeline.litert.runtimes import Signature, signature
from pipeline.metrics.probabilities import LOGISTIC, SLICED_SOFTMAX, SOFTMAX, named

_SLICES = ("SLICE", "STRIDED_SLICE")
_CHANGES_NO_VALUE = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE")


@dataclass(frozen=True)
class AnsweringHead:
    """One output of a classifier, as one who asks it needs to know it.

    Attributes:
        name: Of the head; `probabilities` for the first.
        labels: In the order of its numbers; None if the model does not tell.
        threshold: Probability below which it names nothing; None for none.
        made_by: See `output_operator`.
        columns: Its numbers among all that the model answers.
    """

    name: str
    labels: tuple[str, ...] | None
    threshold: float | None
    made_by: str
    columns: slice

    @property
    def may_name_several(self) -> bool:
        """Tell whether it is a further head of labels that may be true together."""
        return self.name != FIRST_OUTPUT and self.made_by == LOGISTIC

    def named(self, probabilities: npt.NDArray[np.float32]) -> tuple[str, ...]:
        """Return the labels that it names: none, one, or several if they may be true together.

        Args:
            probabilities: float32 [num_labels].
        """
        labels = self.labels or ()
        if self.may_name_several:
            return tuple(label for label, p in zip(labels, probabilities, strict=True) if p >= (self.threshold or 0))
        name = named(labels, probabilities, self.threshold)
        return () if name is None else (name,)


def heads_of(content: bytes, found: Signature) -> list[AnsweringHead]:
    """Return the heads of a classifier, the first of which names what the takes' folders are called.

    Args:
        content: A .tflite file.
        found: What it takes and gives.

    Raises:
        ModelError: If it has several outputs, and its metadata do not name the labels of each.
    """
    if len(found.output_lengths) == 1:
        labels = embedded_labels(content)
        told = None if labels is None else tuple(labels)
        return [AnsweringHead(FIRST_OUTPUT, told, read_threshold(content), output_operator(content), slice(None))]
    outputs = read_outputs(content)
    if [len(output.labels) for output in outputs] != list(found.output_lengths):
        raise ModelError(
            found=f"a model with {len(found.output_lengths)} outputs, whose metadata describe {len(outputs)}",
            expected="labels for each output, as the stage `assemble` writes them (for classifiers, not detectors)",
            remedy="export it with one output",
        )
    ends = [sum(found.output_lengths[: number + 1]) for number in range(len(outputs))]
    return [
        AnsweringHead(
            output.name,
            output.labels,
            output.threshold,
            output_operator(content, number),
            slice(ends[number] - len(output.labels), ends[number]),
        )
        for number, output in enumerate(outputs)
    ]


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


def output_operator(content: bytes, number: int = 0) -> str:
    """Return the name of the operator that makes an output's values, such as `SOFTMAX`.

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

    operator, name = maker(int(graph.outputs[number]))
    is_part = name in _SLICES and maker(int(operator.inputs[0]))[1] == SOFTMAX
    return SLICED_SOFTMAX if is_part else name


def _unreadable(path: Path, what: str, remedy: str) -> ModelError:
    return ModelError(found=f"{path} {what}", expected="a .tflite file that LiteRT can run", remedy=remedy)
