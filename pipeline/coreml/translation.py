"""A program of Core ML as it grows: what is in it of a graph's tensors, and what each operator is given."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from pipeline.coreml.graph import Graph, Node
from pipeline.coreml.layout import as_operand
from pipeline.errors import ModelError

_ACTIVATIONS = {
    schema.ActivationFunctionType.RELU: "relu",
    schema.ActivationFunctionType.RELU6: "relu6",
}

Translate = Callable[["Translation", Node], Any]


class Translation:
    """Turns operators of a graph into those of a program, one after the other.

    Attributes:
        values: What tensors are in the program, by index: pictures are [1, channels, height, width].
    """

    def __init__(self, mb: Any, graph: Graph, image: Any) -> None:
        """Begin with the picture.

        Args:
            mb: Core ML's builder, inside of a program.
            graph: Is translated.
            image: The picture in the program, float32 [1, 3, height, width], 0..255.
        """
        self.mb, self.graph = mb, graph
        self.values = {graph.image: image}

    def add(self, node: Node, translate: Translate) -> None:
        """Add an operator to the program.

        Args:
            node: The operator.
            translate: What makes its result, but for an activation that is fused to it.

        Raises:
            ModelError: If it does what is not translated.
        """
        if node.kind == "RESHAPE" and node.inputs[0] in self.graph.constants:  # as in front of many biases
            constant = self.graph.constants[node.inputs[0]]
            self.graph.constants[node.output] = constant.reshape(self.graph.shapes[node.output])
            return
        result = translate(self, node)
        self.values[node.output] = self._activated(result, node)

    def value(self, node: Node, number: int = 0) -> Any:
        """Return an input in the program, made from a constant if it is one."""
        index = node.inputs[number]
        if index not in self.values:
            constant = self.constant(node, number)
            self.values[index] = self.mb.const(val=as_operand(constant, constant.ndim))
        return self.values[index]

    def constant(self, node: Node, number: int) -> npt.NDArray[Any]:
        """Return an input that must be a constant, in LiteRT's layout."""
        found = self.graph.constants.get(node.inputs[number])
        if found is None:
            raise refusal(node, f"whose input {number} is computed")
        return found

    def bias(self, node: Node, num_outputs: int) -> npt.NDArray[Any]:
        """Return the third input, or zeros where there is none."""
        is_there = len(node.inputs) > 2 and node.inputs[2] >= 0
        return self.constant(node, 2).reshape(-1) if is_there else np.zeros(num_outputs, np.float32)

    def shape(self, node: Node, number: int = 0) -> tuple[int, ...]:
        """Return an input's shape in LiteRT."""
        return self.graph.shapes[node.inputs[number]]

    def output_shape(self, node: Node) -> tuple[int, ...]:
        """Return the output's shape in LiteRT."""
        return self.graph.shapes[node.output]

    def _activated(self, x: Any, node: Node) -> Any:
        fused = getattr(node.options, "fusedActivationFunction", schema.ActivationFunctionType.NONE)
        if fused == schema.ActivationFunctionType.NONE:
            return x
        if fused == schema.ActivationFunctionType.RELU_N1_TO_1:
            return self.mb.clip(x=x, alpha=-1.0, beta=1.0)
        if fused not in _ACTIVATIONS:
            raise refusal(node, f"with the fused activation {fused}")
        return getattr(self.mb, _ACTIVATIONS[fused])(x=x)


def refusal(node: Node, what: str) -> ModelError:
    """Return the error for an operator that does what is not translated."""
    return ModelError(
        found=f"operator {node.position} of the graph for Core ML is a {node.kind} {what}",
        expected="an operator as the project's backbones have it",
        remedy="choose another backbone, or build yours from other layers",
    )
