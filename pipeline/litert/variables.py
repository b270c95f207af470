"""Graphs of a .tflite file that share variables: tensors that keep what a graph assigned until another reads it.

A variable is known by its name in a container. Whichever graph runs first calls the one that gives all of them their
first values; LiteRT runs that one once for each interpreter.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from pipeline.litert.operators import add_operator, add_tensor, new_operator

_CONTAINER = b"head"
_OF_TWO = {
    "ADD": schema.AddOptionsT,
    "SUB": schema.SubOptionsT,
    "MUL": schema.MulOptionsT,
    "DIV": schema.DivOptionsT,
    "MAXIMUM": schema.MaximumMinimumOptionsT,
}


class VariableGraph:
    """One graph of a model, which operators are appended to. What makes a tensor returns its index."""

    def __init__(self, model: Any, number: int, variables: Mapping[str, Sequence[int]]) -> None:
        """Take a graph.

        Args:
            model: The schema's `ModelT`.
            number: Of the graph.
            variables: Shapes of the model's variables, all float32, by name.
        """
        self._model, self._number, self._shapes = model, number, variables
        self._handles = dict[str, int]()

    @property
    def content(self) -> Any:
        """The schema's `SubGraphT`."""
        return self._model.subgraphs[self._number]

    def call_first(self, graph: int) -> None:
        """Let a graph, by its number, run once before all else; it gives the variables their first values."""
        options = schema.CallOnceOptionsT(initSubgraphIndex=graph)
        self.content.operators.insert(0, new_operator(self._model, "CALL_ONCE", [], [], options))

    def read(self, name: str) -> int:
        """Return what a variable holds now."""
        return self.add("READ_VARIABLE", [self._handle(name)], self._shapes[name], schema.ReadVariableOptionsT())

    def assign(self, name: str, value: int) -> None:
        """Let a variable hold a tensor from now on."""
        operands = [self._handle(name), value]
        add_operator(self._model, "ASSIGN_VARIABLE", operands, [], schema.AssignVariableOptionsT(), graph=self._number)

    def assign_zeros(self, name: str) -> None:
        """Let a variable hold zeros, which take no room in the file."""
        dimensions, zero = self.constant(np.array(self._shapes[name], np.int32)), self.constant(np.zeros((), "<f4"))
        self.assign(name, self.add("FILL", [dimensions, zero], self._shapes[name], schema.FillOptionsT()))

    def input(self, name: str, shape: Sequence[int]) -> int:
        """Add a tensor that whoever runs the graph gives, float32."""
        return add_tensor(self._model, name.encode(), shape, graph=self._number)

    def constant(self, values: npt.NDArray[Any]) -> int:
        """Add a tensor that always holds the same: int32, or else float32."""
        return add_tensor(self._model, b"constant", values.shape, values, graph=self._number)

    def shape_of(self, tensor: int) -> list[int]:
        """Return a tensor's shape."""
        return [int(size) for size in self.content.tensors[tensor].shape]

    def add(self, kind: str, inputs: list[int], shape: Sequence[int], options: Any, *, dtype: str = "float32") -> int:
        """Append an operator of one output."""
        output = add_tensor(self._model, kind.lower().encode(), shape, dtype=dtype, graph=self._number)
        add_operator(self._model, kind, inputs, output, options, graph=self._number)
        return output

    def of_two(self, kind: str, first: int, second: int) -> int:
        """Append ADD, SUB, MUL, DIV or MAXIMUM of two tensors, of which one may be broadcast."""
        shape = np.broadcast_shapes(tuple(self.shape_of(first)), tuple(self.shape_of(second)))
        return self.add(kind, [first, second], shape, _OF_TWO[kind]())

    def reduced(self, kind: str, matrix: int, axis: int, *, keeps: bool = False) -> int:
        """Append SUM or REDUCE_MAX along one axis, which stays with size 1 if it is kept."""
        shape = self.shape_of(matrix)
        shape[axis : axis + 1] = [1] if keeps else []
        axes = self.constant(np.array([axis], np.int32))
        return self.add(kind, [matrix, axes], shape, schema.ReducerOptionsT(keepDims=keeps))

    def signature(self, key: str, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Any:
        """Give the graph its inputs and outputs, and return its signature, the schema's `SignatureDefT`."""
        self.content.inputs, self.content.outputs = list(inputs.values()), list(outputs.values())
        given, answers = (
            [schema.TensorMapT(name=name.encode(), tensorIndex=tensor) for name, tensor in tensors.items()]
            for tensors in (inputs, outputs)
        )
        return schema.SignatureDefT(
            inputs=given, outputs=answers, signatureKey=key.encode(), subgraphIndex=self._number
        )

    def _handle(self, name: str) -> int:
        """Return the tensor that stands for a variable: one in a graph, before whatever uses it."""
        if name not in self._handles:
            options = schema.VarHandleOptionsT(container=_CONTAINER, sharedName=name.encode())
            handle = add_tensor(self._model, name.encode(), [], dtype="resource", graph=self._number)
            add_operator(self._model, "VAR_HANDLE", [], handle, options, graph=self._number)
            self._handles[name] = handle
        return self._handles[name]
