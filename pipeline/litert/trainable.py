"""Puts a head that learns on a backbone: one .tflite file that infers, trains, saves and restores.

The backbone's operators stay as they are, so features are bit for bit those of the shipped model. The head's weights
and bias are variables, and a step of gradient descent is written out in operators that are built into LiteRT:

    gradient of the loss with respect to the logits = (softmax(logits) - labels) / number of rows

(C. Bishop, Pattern Recognition and Machine Learning, 2006, equation 4.109). Momentum is PyTorch's: velocity =
momentum * velocity + gradient; weights = weights - learning_rate * velocity.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from pipeline.litert.flatbuffer import read_model, write_model
from pipeline.litert.variables import VariableGraph

ASLEEP = np.float32(-1e9)  # the bias of a row that was taught nothing: its probability is 0, and so is its gradient

_INFER, _INITIALIZE, _TRAIN, _SAVE, _RESTORE = range(5)  # numbers of graphs; the first holds the backbone
_NAMES = {_INITIALIZE: b"initialize", _TRAIN: b"train", _SAVE: b"save", _RESTORE: b"restore"}
_ASLEEP_BELOW = np.float32(-1e8)  # no bias that was learned comes near it
_MIN_ROWS = np.float32(1e-6)  # a batch of nothing but padding must not divide by 0
_LEARNED = ("weights", "bias")
_VERSION_NAME, _VERSION_BYTES = b"min_runtime_version", 16
_MIN_RUNTIME = "2.6.0"  # the first with variables (tensorflow/lite/tools/versioning/runtime_version.cc)


@dataclass(frozen=True)
class HeadShape:
    """How large a head that learns is.

    Attributes:
        num_features: Of the backbone.
        num_labels: That it knows already.
        num_new_labels: That it can be taught.
        knows_none: Whether one output more is for what is none of the labels. It is the last one.
    """

    num_features: int
    num_labels: int
    num_new_labels: int
    knows_none: bool

    @property
    def num_named(self) -> int:
        """Return how many labels have a probability in the answer, new ones included."""
        return self.num_labels + self.num_new_labels

    @property
    def num_outputs(self) -> int:
        """Return how many rows the weights have."""
        return self.num_named + self.knows_none

    @property
    def known_rows(self) -> list[int]:
        """Return the rows that know something from the start: those of the labels, and that of none of them."""
        return [*range(self.num_labels), *range(self.num_named, self.num_outputs)]


def first_values(
    weights: npt.NDArray[np.float32], bias: npt.NDArray[np.float32], shape: HeadShape
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the weights and the bias of a head that has room for new labels.

    Args:
        weights: float32 [num_features, num_labels + knows_none], as `append_head` takes them.
        bias: float32 [num_labels + knows_none].
        shape: Of the head that learns.

    Returns:
        float32 [num_outputs, num_features] and [num_outputs]: labels, new ones asleep, and none of them.
    """
    rows = np.zeros((shape.num_outputs, shape.num_features), np.float32)
    biases = np.full(shape.num_outputs, ASLEEP, np.float32)
    rows[shape.known_rows], biases[shape.known_rows] = weights.T, bias
    return rows, biases


def with_training(
    backbone: bytes,
    weights: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    shape: HeadShape,
    batch_size: int,
) -> bytes:
    """Put a head that learns on a backbone.

    The signatures, all of float32 but the image:

    - infer: image, as the backbone takes it -> features [1, num_features], probabilities [1, num_named]. What these
      lack to 1 is the probability that it is none of the labels.
    - train: features [batch_size, num_features], labels [batch_size, num_outputs], learning_rate [1], momentum [1]
      -> loss [1], the mean cross-entropy before the step. A row of `labels` has a 1 at its label; a row of zeros is
      padding and changes nothing, another number than 1 is how much the row counts. A new label wakes when it is
      trained for the first time: with weights and a bias of 0.
    - save: unused [1] -> weights [num_outputs, num_features], bias [num_outputs].
    - restore: weights, bias, as `save` gave them. Forgets the velocity.

    Args:
        backbone: A .tflite file with one output float32 [1, num_features].
        weights: Of the head at the start, float32 [num_features, num_labels + knows_none].
        bias: Likewise, float32 [num_labels + knows_none].
        shape: Of the head.
        batch_size: Of `train`.

    Returns:
        A .tflite file; equal arguments give equal bytes.

    Raises:
        ModelError: If the backbone is no TensorFlow Lite model.
        ValueError: If the shapes do not fit together.
    """
    model = read_model(backbone)
    given = int(model.subgraphs[0].tensors[model.subgraphs[0].outputs[0]].shape[-1])
    expected = (given, shape.num_labels + shape.knows_none)
    if shape.num_features != given or weights.shape != expected or bias.shape != expected[1:]:
        found = f"weights {weights.shape}, bias {bias.shape} and {shape.num_features} features"
        raise ValueError(f"{found}; expected weights {expected} and bias {expected[1:]}, for {shape}")
    model.subgraphs += [
        schema.SubGraphT(tensors=[], operators=[], inputs=[], outputs=[], name=name) for name in _NAMES.values()
    ]
    of_variables = {"weights": [shape.num_outputs, given], "bias": [shape.num_outputs]}
    of_variables |= {_velocity(name): size for name, size in of_variables.items()}
    graphs = [VariableGraph(model, number, of_variables) for number in range(len(model.subgraphs))]
    _initialize(graphs[_INITIALIZE], *first_values(weights, bias, shape))
    model.signatureDefs = [
        _infer(graphs[_INFER], shape),
        _train(graphs[_TRAIN], shape, batch_size),
        _save(graphs[_SAVE]),
        _restore(graphs[_RESTORE], of_variables),
    ]
    for number in (_INFER, _TRAIN, _SAVE, _RESTORE):
        graphs[number].call_first(_INITIALIZE)
    _ask_for_variables(model)
    return write_model(model)


def _velocity(name: str) -> str:
    return f"{name}_velocity"


def _initialize(graph: VariableGraph, weights: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]) -> None:
    for name, values in zip(_LEARNED, (weights, bias), strict=True):
        graph.assign(name, graph.constant(values))
        graph.assign_zeros(_velocity(name))


def _infer(graph: VariableGraph, shape: HeadShape) -> Any:
    """Let the first graph, which holds the backbone, go on to the probabilities."""
    image, features = int(graph.content.inputs[0]), int(graph.content.outputs[0])
    probabilities = _softmax(graph, _logits(graph, features, graph.read("weights"), graph.read("bias")))
    if shape.num_named < shape.num_outputs:
        begin, size = (graph.constant(np.array(row, np.int32)) for row in ([0, 0], [1, shape.num_named]))
        named = [1, shape.num_named]
        probabilities = graph.add("SLICE", [probabilities, begin, size], named, schema.SliceOptionsT())
    return graph.signature("infer", {"image": image}, {"features": features, "probabilities": probabilities})


def _train(graph: VariableGraph, shape: HeadShape, batch_size: int) -> Any:
    inputs = {
        "features": graph.input("features", [batch_size, shape.num_features]),
        "labels": graph.input("labels", [batch_size, shape.num_outputs]),
        "learning_rate": graph.input("learning_rate", [1]),
        "momentum": graph.input("momentum", [1]),
    }
    features, labels, learning_rate, momentum = inputs.values()
    values = {"weights": graph.read("weights"), "bias": _awake(graph, graph.read("bias"), labels)}
    logits = _logits(graph, features, *values.values())
    of_rows = graph.reduced("SUM", labels, 1, keeps=True)
    at_least = graph.constant(np.full(1, _MIN_ROWS, np.float32))
    num_rows = graph.of_two("MAXIMUM", graph.reduced("SUM", of_rows, 0), at_least)
    too_much = graph.of_two("SUB", graph.of_two("MUL", _softmax(graph, logits), of_rows), labels)
    gradient = graph.of_two("DIV", too_much, num_rows)
    transposed = schema.BatchMatMulOptionsT(adjX=True)
    of_weights = graph.add("BATCH_MATMUL", [gradient, features], graph.shape_of(values["weights"]), transposed)
    loss = _loss(graph, logits, labels, num_rows)
    gradients = {"weights": of_weights, "bias": graph.reduced("SUM", gradient, 0)}
    for name in _LEARNED:
        kept = graph.of_two("MUL", graph.read(_velocity(name)), momentum)
        velocity = graph.of_two("ADD", kept, gradients[name])
        graph.assign(_velocity(name), velocity)
        graph.assign(name, graph.of_two("SUB", values[name], graph.of_two("MUL", velocity, learning_rate)))
    return graph.signature("train", inputs, {"loss": loss})


def _save(graph: VariableGraph) -> Any:
    """Give what was learned; the input is there because LiteRT for Java refuses to run a signature without one."""
    return graph.signature(
        "save", {"unused": graph.input("unused", [1])}, {name: graph.read(name) for name in _LEARNED}
    )


def _restore(graph: VariableGraph, shapes: dict[str, list[int]]) -> Any:
    """Assign; after the first values, which would otherwise come over them when another signature runs."""
    inputs = {name: graph.input(name, shapes[name]) for name in _LEARNED}
    for name, value in inputs.items():
        graph.assign(name, value)
        graph.assign_zeros(_velocity(name))
    return graph.signature("restore", inputs, {})


def _logits(graph: VariableGraph, features: int, weights: int, bias: int) -> int:
    shape = [graph.shape_of(features)[0], graph.shape_of(bias)[0]]
    return graph.add("FULLY_CONNECTED", [features, weights, bias], shape, schema.FullyConnectedOptionsT())


def _softmax(graph: VariableGraph, logits: int) -> int:
    return graph.add("SOFTMAX", [logits], graph.shape_of(logits), schema.SoftmaxOptionsT(beta=1.0))


def _awake(graph: VariableGraph, bias: int, labels: int) -> int:
    """Return the bias with 0 for each label that sleeps and is to be learned now."""
    shape = graph.shape_of(bias)
    limit, zero = graph.constant(np.full(1, _ASLEEP_BELOW)), graph.constant(np.zeros(1, np.float32))
    most = graph.reduced("REDUCE_MAX", labels, 0)
    sleeps = graph.add("LESS", [bias, limit], shape, schema.LessOptionsT(), dtype="bool")
    is_taught = graph.add("GREATER", [most, zero], shape, schema.GreaterOptionsT(), dtype="bool")
    wakes = graph.add("LOGICAL_AND", [sleeps, is_taught], shape, schema.LogicalAndOptionsT(), dtype="bool")
    return graph.add("SELECT_V2", [wakes, zero, bias], shape, schema.SelectV2OptionsT())


def _loss(graph: VariableGraph, logits: int, labels: int, num_rows: int) -> int:
    """Return the mean of the labels' negative log probability."""
    logarithms = graph.add("LOG_SOFTMAX", [logits], graph.shape_of(logits), schema.LogSoftmaxOptionsT())
    of_rows = graph.reduced("SUM", graph.of_two("MUL", logarithms, labels), 1, keeps=True)
    mean = graph.of_two("DIV", graph.reduced("SUM", of_rows, 0), num_rows)
    return graph.add("NEG", [mean], [1], schema.NegOptionsT())


def _ask_for_variables(model: Any) -> None:
    """Let the file tell from which runtime on it runs, if it tells."""
    for entry in model.metadata or []:
        if entry.name == _VERSION_NAME:
            told = bytes(model.buffers[entry.buffer].data).rstrip(b"\0").decode()
            newest = max(told, _MIN_RUNTIME, key=lambda one: [int(part) for part in one.split(".")])
            data = np.frombuffer(newest.encode().ljust(_VERSION_BYTES, b"\0"), np.uint8)
            model.buffers[entry.buffer] = schema.BufferT(data=data)
