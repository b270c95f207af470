"""Removes from a .tflite file what nothing that it gives depends on."""

from typing import Any

from ai_edge_litert import schema_py_generated as schema


def drop_unused(model: Any) -> None:
    """Remove operators, tensors and buffers that the outputs of a model's one graph do not need.

    Args:
        model: The schema's `ModelT`, whose signatures are written afterwards. Indices of tensors change.
    """
    graph = model.subgraphs[0]
    needed = {int(index) for index in graph.outputs}
    kept = list[Any]()
    for operator in reversed(graph.operators):
        if needed & {int(index) for index in operator.outputs}:
            kept.append(operator)
            needed |= {int(index) for index in (*operator.inputs, *operator.outputs) if index >= 0}
    graph.operators = kept[::-1]
    needed |= {int(index) for index in graph.inputs}
    order = sorted(needed)
    place = {old: new for new, old in enumerate(order)} | {-1: -1}  # -1 is an optional input that is not there
    graph.tensors = [graph.tensors[index] for index in order]
    graph.inputs, graph.outputs = ([place[int(index)] for index in ends] for ends in (graph.inputs, graph.outputs))
    for operator in graph.operators:
        operator.inputs = [place[int(index)] for index in operator.inputs]
        operator.outputs = [place[int(index)] for index in operator.outputs]
    used = {int(tensor.buffer) for tensor in graph.tensors} | {int(entry.buffer) for entry in model.metadata or []}
    for number in set(range(len(model.buffers))) - used:
        model.buffers[number] = schema.BufferT()
