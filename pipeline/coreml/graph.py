"""A .tflite classifier's graph as the translation to Core ML needs it: constants as arrays, operators in order."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ModelError
from pipeline.litert.flatbuffer import LOGITS_NAME, operator_name, read_model, tensor_type_name

HEAD = "head_"  # so begins the name of what makes the logits

_FURTHER = re.compile(rb"head/([^/]+)/probabilities")  # the output of a head beside the first
_DTYPES = {"FLOAT32": "<f4", "INT32": "<i4", "INT64": "<i8"}


@dataclass(frozen=True)
class Node:
    """An operator.

    Attributes:
        kind: LiteRT's name of it, such as `CONV_2D`.
        position: In the graph, from 0.
        inputs: Indices of tensors; -1 is an optional one that is not there.
        output: Index of the tensor that it makes.
        options: The schema's object, such as `Conv2DOptionsT`; None for an operator without.
        is_head: Whether it makes the logits, by the name that the stage `assemble` gives these.
    """

    kind: str
    position: int
    inputs: tuple[int, ...]
    output: int
    options: Any
    is_head: bool

    @property
    def name(self) -> str:
        """Return a name that no other operator of the graph has."""
        return f"{HEAD if self.is_head else ''}{self.kind.lower()}_{self.position}"


class Graph:
    """A graph with one input and an output for each head, whose shapes are all known.

    Attributes:
        nodes: Its operators, in an order in which they can run.
        constants: What tensors always hold, by index, in LiteRT's layout; float32, int32 or int64.
        shapes: Of all tensors, by index, in LiteRT's layout: pictures are [1, height, width, channels].
        image: Index of the input.
        output: Index of the probabilities of the first head.
        further: Likewise, of the heads beside it, by name.
    """

    def __init__(self, content: bytes) -> None:
        """Read a .tflite file.

        Raises:
            ModelError: If it is no TensorFlow Lite model of one graph, or a tensor is of another type than float32.
        """
        model = read_model(content)
        graph = model.subgraphs[0]
        self.image, self.output = int(graph.inputs[0]), int(graph.outputs[0])
        self.further = dict(_further_outputs(graph))
        self.nodes = list(_nodes(model))
        self.shapes = {index: _shape(tensor) for index, tensor in enumerate(graph.tensors)}
        self.constants = dict(_constants(model, self.shapes))


def _further_outputs(graph: Any) -> Iterator[tuple[str, int]]:
    for index in map(int, graph.outputs[1:]):
        name = graph.tensors[index].name or b""
        match = _FURTHER.fullmatch(name)
        if match is None:
            raise ModelError(
                found=f"an output {name.decode()!r} beside the first, in the graph for Core ML",
                expected="outputs of heads, as the stage `assemble` names them",
                remedy="export the model with one output",
            )
        yield match[1].decode(), index


def _nodes(model: Any) -> Iterator[Node]:
    for position, operator in enumerate(model.subgraphs[0].operators):
        inputs = tuple(int(index) for index in operator.inputs)
        output = int(operator.outputs[0])
        is_head = (model.subgraphs[0].tensors[output].name or b"").rpartition(b"/")[2] == LOGITS_NAME
        yield Node(operator_name(model, operator), position, inputs, output, operator.builtinOptions, is_head)


def _shape(tensor: Any) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(int(size) for size in tensor.shape)


def _constants(model: Any, shapes: dict[int, tuple[int, ...]]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        data = model.buffers[tensor.buffer].data
        if data is None or not len(data):
            continue
        kind = tensor_type_name(tensor)
        if kind not in _DTYPES:
            raise ModelError(
                found=f"a constant of {kind} numbers, {tensor.name.decode()!r}, in the graph for Core ML",
                expected="a model whose numbers are all float32",
                remedy="list float32 under `quantization` in params.yaml and run `dvc repro`, which makes one",
            )
        yield index, np.asarray(data, np.uint8).view(_DTYPES[kind]).reshape(shapes[index])
