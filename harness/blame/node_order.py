"""The nodes of a graph in an order in which they can be computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from heapq import heappop, heappush

from onnx import GraphProto, ModelProto, NodeProto


def sort_nodes(model: ModelProto) -> None:
    """Put the nodes of the model and of every graph inside it into an order in which they can be computed.

    ONNX demands such an order, but not every converter keeps it, and ONNX Runtime does not insist. Nodes that are in
    order keep it. Outputs without a name that stand before named ones get a name: the evaluator would take what is
    computed for them as the value of every input that is left out. Raises ValueError if nodes wait for one another.
    """
    _sort_graph(model.graph)
    for function in model.functions:
        _replace(function.node, _sorted(function.node))


def _sort_graph(graph: GraphProto) -> None:
    for node in graph.node:
        for subgraph in _subgraphs(node):
            _sort_graph(subgraph)
    _replace(graph.node, _sorted(graph.node))


def _sorted(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Copies of ``nodes``, each behind those whose outputs it or a graph inside it reads."""
    maker = {output: position for position, node in enumerate(nodes) for output in node.output if output}
    needs = [{maker[name] for name in _names_read(node) if name in maker} for node in nodes]
    readers: dict[int, list[int]] = {}
    for position, makers in enumerate(needs):
        for each in makers:
            readers.setdefault(each, []).append(position)
    missing = [len(makers) for makers in needs]
    ready = [position for position, count in enumerate(missing) if not count]
    order: list[int] = []
    while ready:
        order.append(heappop(ready))
        for reader in readers.get(order[-1], ()):
            missing[reader] -= 1
            if not missing[reader]:
                heappush(ready, reader)
    if len(order) < len(nodes):
        first = next(node for node, count in zip(nodes, missing, strict=True) if count)
        raise ValueError(f"the nodes of the graph wait for one another: {first.op_type} {first.name!r} and others")
    return [_with_named_outputs(nodes[position], position) for position in order]


def _names_read(node: NodeProto) -> Iterator[str]:
    """The names that a node reads, and those that graphs inside it read from outside or inside."""
    yield from node.input
    for subgraph in _subgraphs(node):
        own = {name for inner in subgraph.node for name in inner.output}
        own |= {value.name for value in subgraph.input} | {tensor.name for tensor in subgraph.initializer}
        for inner in subgraph.node:
            yield from (name for name in _names_read(inner) if name not in own)
        yield from (value.name for value in subgraph.output if value.name not in own)


def _with_named_outputs(node: NodeProto, position: int) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    while copy.output and not copy.output[-1]:
        del copy.output[-1]
    for index, name in enumerate(copy.output):
        if not name:
            copy.output[index] = f"unnamed output {index} of node {position} {node.op_type}"
    return copy


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _replace(nodes: MutableSequence[NodeProto], others: Sequence[NodeProto]) -> None:
    del nodes[:]
    nodes.extend(others)


def all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes, and those of every graph inside them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                yield from all_nodes(subgraph.node)
