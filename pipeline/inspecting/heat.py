"""Where the model looks: class activation maps (Zhou et al., https://arxiv.org/abs/1512.04150).

A backbone ends in the average of a feature map over its cells, and the head is linear. So a logit is the average of
what the head makes of each cell, exactly: no gradient and no approximation is needed.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import ModelError
from pipeline.heads.head_file import Head
from pipeline.litert.flatbuffer import operator_name, read_model, write_model
from pipeline.litert.interpreter import load_interpreter

_POOLING = ("MEAN", "AVERAGE_POOL_2D")
_RESHAPING = ("RESHAPE", "SQUEEZE")


@dataclass(frozen=True)
class Heat:
    """Where the evidence for a label lies in a picture.

    Attributes:
        cells: float32 [rows, columns]: by how much each cell raises the label's logit over the mean of all labels';
            their average is that difference.
        border_percent: Share of what speaks for the label that lies in the outermost cells, 0..100.
        border_area_percent: Share of the cells that are outermost.
    """

    cells: npt.NDArray[np.float32]
    border_percent: float
    border_area_percent: float


class HeatMapper:
    """Makes heat maps of model inputs. Not thread-safe.

    Attributes:
        input_pixels: Side of the square input.
    """

    def __init__(self, backbone: bytes, head: Head) -> None:
        """Load a backbone that gives its last feature map.

        Args:
            backbone: A float32 backbone.
            head: Trained on its features.

        Raises:
            ModelError: If its features are no average of a feature map.
        """
        self._interpreter = load_interpreter(_with_feature_map(backbone), 1)
        self._input: int = self._interpreter.get_input_details()[0]["index"]
        self._output: int = self._interpreter.get_output_details()[0]["index"]
        self.input_pixels = int(self._interpreter.get_input_details()[0]["shape"][1])
        self._weights = head.weights - head.weights.mean(1, keepdims=True)

    def __call__(self, model_input: npt.NDArray[np.uint8], label_index: int) -> Heat:
        """Return where a picture, uint8 [p, p, 3], looks like a label."""
        self._interpreter.set_tensor(self._input, model_input[np.newaxis])
        self._interpreter.invoke()
        cells = self._interpreter.get_tensor(self._output)[0] @ self._weights[:, label_index]
        inner = np.zeros(cells.shape, bool)
        inner[1:-1, 1:-1] = True
        speaks_for = np.maximum(cells, 0)
        total = float(speaks_for.sum())
        border = 100 * float(speaks_for[~inner].sum()) / total if total else 0.0
        return Heat(cells, border, 100 * float((~inner).mean()))


def _with_feature_map(backbone: bytes) -> bytes:
    """Return a backbone whose output is the feature map that its features are the average of.

    Raises:
        ModelError: If there is none: the features come from a dense layer, or from attention.
    """
    model = read_model(backbone)
    graph = model.subgraphs[0]
    made_by = {int(output): operator for operator in graph.operators for output in operator.outputs}
    tensor = int(graph.outputs[0])
    while tensor in made_by:
        operator = made_by[tensor]
        source = int(operator.inputs[0])
        shape = list(graph.tensors[source].shape)
        if operator_name(model, operator) in _POOLING and len(shape) == 4 and min(shape[1:3]) > 2:
            graph.outputs = [source]
            return write_model(model)
        if list(graph.tensors[tensor].shape)[-1] != shape[-1] or operator_name(model, operator) not in _RESHAPING:
            break
        tensor = source
    raise ModelError(
        found="a backbone whose features are no average of a feature map",
        expected="global average pooling as its last step",
        remedy="none is needed: there are no heat maps then",
    )
