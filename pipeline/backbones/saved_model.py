"""Looks into a SavedModel before TensorFlow does: which operators it has, and whether one reaches outside of it.

A SavedModel is a program. Loading it runs a part (what makes its tables and variables), converting it another; and to
find shapes, TensorFlow computes what it can of every function while it loads them, called or not: seen with a function
that nobody called, whose ReadFile was run. Hence all functions are looked at, in the file, which is only data so far.

A model of these operators may still take all memory or never end, which harms nobody but its user.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.backbones.operators import ALLOWED, RESTORING, SAVING
from pipeline.errors import ModelError

GRAPH_FILE = "saved_model.pb"
_MAX_NAMED = 8
_OTHERS = ""  # stands for callers that are no nodes of the main graph; no node has this name


def check_saved_model(folder: Path) -> None:
    """Refuse a SavedModel with an operator that is not in `operators.py`; nothing is loaded or run for that.

    Raises:
        ModelError: It has such operators, they are named; or there is no such file, or it is damaged.
    """
    refused: dict[str, str] = {}
    for meta_graph in _meta_graphs(folder / GRAPH_FILE):
        refused |= _MetaGraph(meta_graph).refused()
    if not refused:
        return
    named = [f"{operator} (in {place})" for operator, place in sorted(refused.items())]
    more = f" and {len(named) - _MAX_NAMED} more" if len(named) > _MAX_NAMED else ""
    raise ModelError(
        found=f"{folder} has operators that features of pictures need not: {', '.join(named[:_MAX_NAMED])}{more}; "
        "nothing of it was run",
        expected=f"a SavedModel of the {len(ALLOWED)} operators in pipeline/backbones/operators.py, which reach neither"
        " files nor the network nor Python, and which restores its own variables alone",
        remedy="export the feature extractor alone, without what reads, decodes, looks up or logs:"
        " `model.export(folder)` in Keras; use no SavedModel from somebody whom you do not trust",
    )


def _meta_graphs(file: Path) -> list[Any]:
    # not before TensorFlow is silenced
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # noqa: PLC0415

    if not file.is_file():
        raise _no_saved_model(f"there is no {GRAPH_FILE} in {file.parent}")
    try:
        found = list(SavedModel.FromString(file.read_bytes()).meta_graphs)
    except Exception as error:  # protobuf's implementations each have an exception of their own
        raise _no_saved_model(f"{file} cannot be read: {error}") from error
    if not found:
        raise _no_saved_model(f"{file} holds no graph")
    return found


def _no_saved_model(found: str) -> ModelError:
    return ModelError(
        found=found,
        expected=f"the folder of a SavedModel, whole, with {GRAPH_FILE} in it",
        remedy="export it again with `model.export(folder)`, or correct `weights` in conf/backbone/",
    )


class _MetaGraph:
    """A graph with its functions.

    Its saver is three things in the main graph: a placeholder for a file name, and what saves and what restores the
    variables with it. What saves is not run here; what restores is, with the file name of the model's own variables.
    """

    def __init__(self, meta_graph: Any) -> None:
        graph, saver = meta_graph.graph_def, meta_graph.saver_def
        self._nodes = {node.name: node for node in graph.node}
        self._functions = {function.signature.name: function for function in graph.library.function}
        self._callers = _callers(meta_graph)
        self._file_name = _producer(saver.filename_tensor_name)
        used = self._needed_for(_used_tensors(meta_graph))
        self._restoring = self._needed_for([saver.restore_op_name]) - used
        self._saving = self._needed_for([saver.save_tensor_name]) - used - self._restoring

    def refused(self) -> dict[str, str]:
        """Return the operators that are not allowed where they stand, each with one such place."""
        found: dict[str, str] = {}
        for node in self._nodes.values():
            for operator in self._refused_of(node, {node.name}, None):
                found[operator] = "the graph"
        for name, function in self._functions.items():
            for node in function.node_def:
                for operator in self._refused_of(node, self._callers[name], function):
                    found[operator] = f"the function {name}"
        return found

    def _refused_of(self, node: Any, users: set[str], function: Any) -> Iterator[str]:
        """Yield what is wrong with a node that serves some nodes of the main graph, or others (`_OTHERS`)."""
        saves, restores = (users and users <= part for part in (self._saving, self._restoring))
        is_allowed = node.op in ALLOWED or node.op in self._functions or (node.op in SAVING and saves)
        if node.op == RESTORING and restores:
            is_allowed = self._is_given_file_name(node, users, function)
        if not is_allowed:
            yield node.op
        for name in _functions_in(node.attr.values()):
            if name not in self._functions:  # an operator can be called like a function
                yield f"a call of {name}"

    def _is_given_file_name(self, node: Any, users: set[str], function: Any) -> bool:
        """Tell whether a node's first input is the saver's file name, directly or as an argument of its function."""
        if function is None:
            return _origin(node.input[0], self._nodes) == self._file_name
        arguments = [argument.name for argument in function.signature.input_arg]
        argument = _origin(node.input[0], {inner.name: inner for inner in function.node_def})
        if argument not in arguments:
            return False
        given = [self._nodes[user].input[arguments.index(argument)] for user in users]
        return all(_origin(tensor, self._nodes) == self._file_name for tensor in given)

    def _needed_for(self, tensors: Iterable[str]) -> set[str]:
        """Return the names of all nodes of the main graph that tensors are computed from."""
        waiting, found = [_producer(tensor) for tensor in tensors], set[str]()
        while waiting:
            name = waiting.pop()
            if name in self._nodes and name not in found:
                found.add(name)
                waiting += [_producer(tensor) for tensor in self._nodes[name].input]
        return found


def _used_tensors(meta_graph: Any) -> list[str]:
    """Return what is computed of the main graph, but for saving and restoring: what signatures and collections name."""
    signatures = meta_graph.signature_def.values()
    tensors = [info.name for signature in signatures for info in signature.outputs.values()]
    return tensors + [name for collection in meta_graph.collection_def.values() for name in collection.node_list.value]


def _callers(meta_graph: Any) -> Mapping[str, set[str]]:
    """Return for each function which nodes of the main graph call it, and `_OTHERS` if anything else can."""
    callers: dict[str, set[str]] = defaultdict(set)
    library, objects = meta_graph.graph_def.library, meta_graph.object_graph_def
    for node in meta_graph.graph_def.node:
        for name in _called(node):
            callers[name].add(node.name)
    others = [name for function in library.function for node in function.node_def for name in _called(node)]
    others += [gradient.gradient_func for gradient in library.gradient]
    others += [gradient.gradient_func for gradient in library.registered_gradients]
    others += list(objects.concrete_functions)
    for name in others:
        callers[name].add(_OTHERS)
    return callers


def _called(node: Any) -> Iterator[str]:
    yield node.op
    yield from _functions_in(node.attr.values())


def _functions_in(attributes: Iterable[Any]) -> Iterator[str]:
    """Yield the names of the functions that attributes hold, and those in the attributes of these."""
    for attribute in attributes:
        held = [attribute.func] if attribute.HasField("func") else list(attribute.list.func)
        for function in held:
            yield function.name
            yield from _functions_in(function.attr.values())


def _origin(tensor: str, nodes: Mapping[str, Any]) -> str:
    """Return the node or argument that a tensor comes from unchanged."""
    name, seen = _producer(tensor), set[str]()
    while name in nodes and nodes[name].op == "Identity" and name not in seen:
        seen.add(name)
        name = _producer(nodes[name].input[0])
    return name


def _producer(tensor: str) -> str:
    """Return the name of the node that a tensor (`node:0`, `node:output:0`) or a control input (`^node`) comes from."""
    return tensor.removeprefix("^").partition(":")[0]
