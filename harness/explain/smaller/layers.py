"""Fewer layers: a step of a sequence or a node of a graph is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from harness.spec.case import Case, GraphModel, GraphNode, LayerModel, Model, SequentialModel, TensorSpec


def fewer_layers(case: Case) -> Iterator[Case]:
    """The case with one layer less, or half of a sequence."""
    match case.model.model:
        case SequentialModel(steps):
            for model, offset in _shorter(steps):
                yield _with(case, model, _renumbered(case.model.weights, offset, model))
        case GraphModel():
            for graph in _pruned(case.model.model):
                yield _of_graph(case, graph)


def _shorter(steps: Sequence[LayerModel]) -> Iterator[tuple[Model, dict[int, int]]]:
    """Part of the steps, with the new place of each by its old one."""
    half = len(steps) // 2
    ranges = [range(half), range(half, len(steps))] if half > 1 else []
    kept = [list(each) for each in ranges]
    kept += [[at for at in range(len(steps)) if at != left_out] for left_out in range(len(steps))]
    for places in kept:
        if places:
            model = SequentialModel(tuple(steps[at] for at in places)) if len(places) > 1 else steps[places[0]]
            yield model, {old: new for new, old in enumerate(places)}


def _renumbered(weights: Mapping[str, TensorSpec], places: Mapping[int, int], model: Model) -> dict[str, TensorSpec]:
    """The weights of the steps that are left, by their new names."""
    kept = {}
    for name, spec in weights.items():
        step, _, parameter = name.partition(".")
        if step.isdecimal() and int(step) in places:
            kept[f"{places[int(step)]}.{parameter}" if isinstance(model, SequentialModel) else parameter] = spec
    return kept


def _pruned(graph: GraphModel) -> Iterator[GraphModel]:
    """The graph with fewer returns; with a node bypassed, its input where its output was; ended at an earlier value."""
    if len(graph.returns) > 1:
        for name in graph.returns:
            yield _needed(replace(graph, returns=(name,)))
    for node in graph.nodes[:-1]:
        yield _needed(replace(graph, returns=node.outputs))
    for at, node in enumerate(graph.nodes):
        rest = graph.nodes[:at] + graph.nodes[at + 1 :]
        for source in node.inputs:
            yield _needed(_renamed(replace(graph, nodes=rest), dict.fromkeys(node.outputs, source)))


def _renamed(graph: GraphModel, names: Mapping[str, str]) -> GraphModel:
    nodes = tuple(replace(node, inputs=tuple(names.get(name, name) for name in node.inputs)) for node in graph.nodes)
    return GraphModel(nodes, tuple(names.get(name, name) for name in graph.returns))


def _needed(graph: GraphModel) -> GraphModel:
    """The graph without nodes that nothing asks for."""
    wanted, kept = set(graph.returns), []
    for node in reversed(graph.nodes):
        if wanted & set(node.outputs):
            kept.append(node)
            wanted |= set(node.inputs)
    return replace(graph, nodes=tuple(reversed(kept)))


def _of_graph(case: Case, graph: GraphModel) -> Case:
    """The case with ``graph``, without inputs and weights that it does not use; one layer alone is no graph."""
    used = {name for node in graph.nodes for name in node.inputs} | set(graph.returns)
    inputs = tuple(spec for spec in case.inputs if spec.label in used)
    layers = {node.outputs[0] for node in graph.nodes}
    weights = {name: spec for name, spec in case.model.weights.items() if name.partition(".")[0] in layers}
    dynamic = {label: axes for label, axes in case.dynamic.items() if label in used}
    case = replace(case, inputs=inputs, dynamic=dynamic)
    alone = _alone(graph, [spec.label for spec in inputs])
    if alone is not None:
        return _with(case, alone, {name.partition(".")[2]: spec for name, spec in weights.items()})
    return _with(case, graph, weights)


def _alone(graph: GraphModel, labels: Sequence[str]) -> LayerModel | None:
    """The one layer of the graph, where its inputs are the case's and it returns what the layer does."""
    if len(graph.nodes) != 1:
        return None
    node: GraphNode = graph.nodes[0]
    return node.layer if list(node.inputs) == list(labels) and node.outputs == graph.returns else None


def _with(case: Case, model: Model, weights: Mapping[str, TensorSpec]) -> Case:
    return replace(case, model=replace(case.model, model=model, weights=dict(weights)))
