"""Keep float32 between nodes that stay in float32, after ONNX Runtime's converter to float16.

The converter rounds every value to float16, also one that a node in float32 hands to another: a Cast to float16 and one
back stand between them. A value beyond float16's range is then lost although both nodes are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any


def own_casts(model: Any) -> set[str]:
    """The outputs of the Casts of ``model`` before it is converted."""
    return {node.output[0] for node in model.graph.node if node.op_type == "Cast"}


def without_round_trips(converted: Any, own_casts: Collection[str]) -> bool:
    """Let nodes of ``converted`` read float32 where a pair of Casts rounds it to 16 bits and back; changes the model.

    ``own_casts`` are the outputs of the Casts that the model had before, which stay. False if no value of 16 bits is
    left.
    """
    import onnx

    half = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    added = {node.output[0]: node for node in converted.graph.node if node.op_type == "Cast"}
    added = {name: node for name, node in added.items() if name not in own_casts}
    rounded = {name: node.input[0] for name, node in added.items() if _to(node) in half}
    for node in added.values():
        if _to(node) not in half and node.input[0] in rounded:
            node.input[0] = rounded[node.input[0]]
    read = {name for node in all_nodes(converted.graph) for name in node.input}
    read |= {value.name for value in converted.graph.output}
    left = [node for node in converted.graph.node if node.output[0] not in added or node.output[0] in read]
    del converted.graph.node[:]
    converted.graph.node.extend(left)
    types = {_to(node) for node in left if node.op_type == "Cast"} | {
        each.data_type for each in converted.graph.initializer
    }
    return bool(types & half)


def all_nodes(graph: Any) -> Iterator[Any]:
    """The nodes of ``graph`` and of the graphs in their attributes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from all_nodes(inner)


def _to(cast: Any) -> int:
    return next((int(each.i) for each in cast.attribute if each.name == "to"), 0)
