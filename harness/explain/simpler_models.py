"""Simpler cases by model: with fewer requirements, with fewer layers, and with fewer or simpler arguments.

:func:`all_layers`, :func:`with_model` and :func:`map_leaves` are shared with
:mod:`harness.explain.simpler_tensors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.spec.language.case import (
    Case,
    Expectation,
    GraphModel,
    GraphNode,
    LayerModel,
    Model,
    Operation,
    SequentialModel,
    TensorSpec,
)

# Fewer requirements


def fewer_requirements(case: Case) -> Iterator[Case]:
    """The case without one of its expectations, dynamic axes, shapes, samples, layouts, weights or seeds.

    An expected error stays, because the case is about it.
    """
    if case.expect.raises is None:
        yield replace(case, expect=Expectation())
    yield replace(case, also=(), dynamic={}, bench=())
    if case.samples:
        yield replace(case, samples=(), data=None)
    if case.draws > 1:
        yield replace(case, draws=1)
    yield replace(case, also=(), bench=())
    for index in range(len(case.also)):
        yield replace(case, also=case.also[:index] + case.also[index + 1 :])
    for label in case.dynamic:
        yield replace(case, dynamic={other: axes for other, axes in case.dynamic.items() if other != label})
    for index, spec in enumerate(case.inputs):
        contiguous = replace(spec, layout="contiguous")
        yield replace(case, inputs=(*case.inputs[:index], contiguous, *case.inputs[index + 1 :]))
    yield replace(case, mode="eval")
    for name in case.model.weights:
        rest = {other: spec for other, spec in case.model.weights.items() if other != name}
        yield replace(case, model=replace(case.model, weights=rest))
    yield replace(case, seed=0)


# Fewer layers


def fewer_layers(case: Case) -> Iterator[Case]:
    """The case without one of its layers, or with half of a sequence."""
    match case.model.model:
        case SequentialModel(steps):
            for model, indices in _shorter_sequences(steps):
                yield _with_weights(case, model, _renumbered_weights(case.model.weights, indices, model))
        case GraphModel():
            for graph in _smaller_graphs(case.model.model):
                yield _with_graph(case, graph)


def _shorter_sequences(steps: Sequence[LayerModel]) -> Iterator[tuple[Model, dict[int, int]]]:
    """A model of some of the steps, with the new index of each kept step by its old index."""
    half = len(steps) // 2
    halves = [range(half), range(half, len(steps))] if half > 1 else []
    selections = [list(indices) for indices in halves]
    selections += [[index for index in range(len(steps)) if index != dropped] for dropped in range(len(steps))]
    for kept in selections:
        if kept:
            model = SequentialModel(tuple(steps[index] for index in kept)) if len(kept) > 1 else steps[kept[0]]
            yield model, {old: new for new, old in enumerate(kept)}


def _renumbered_weights(
    weights: Mapping[str, TensorSpec], indices: Mapping[int, int], model: Model
) -> dict[str, TensorSpec]:
    """The weights of the kept steps under their new names."""
    kept = {}
    for name, spec in weights.items():
        step, _, parameter = name.partition(".")
        if step.isdecimal() and int(step) in indices:
            kept[f"{indices[int(step)]}.{parameter}" if isinstance(model, SequentialModel) else parameter] = spec
    return kept


def _smaller_graphs(graph: GraphModel) -> Iterator[GraphModel]:
    """The graph with one return only; ended at an earlier node; or with a node replaced by one of its inputs."""
    if len(graph.returns) > 1:
        for name in graph.returns:
            yield _without_unused_nodes(replace(graph, returns=(name,)))
    for node in graph.nodes[:-1]:
        yield _without_unused_nodes(replace(graph, returns=node.outputs))
    for index, node in enumerate(graph.nodes):
        rest = graph.nodes[:index] + graph.nodes[index + 1 :]
        for source in node.inputs:
            yield _without_unused_nodes(_renamed(replace(graph, nodes=rest), dict.fromkeys(node.outputs, source)))


def _renamed(graph: GraphModel, names: Mapping[str, str]) -> GraphModel:
    nodes = tuple(replace(node, inputs=tuple(names.get(name, name) for name in node.inputs)) for node in graph.nodes)
    return GraphModel(nodes, tuple(names.get(name, name) for name in graph.returns))


def _without_unused_nodes(graph: GraphModel) -> GraphModel:
    used, kept = set(graph.returns), []
    for node in reversed(graph.nodes):
        if used & set(node.outputs):
            kept.append(node)
            used |= set(node.inputs)
    return replace(graph, nodes=tuple(reversed(kept)))


def _with_graph(case: Case, graph: GraphModel) -> Case:
    """The case with ``graph``, without unused inputs and weights. A graph of one layer becomes that layer."""
    used = {name for node in graph.nodes for name in node.inputs} | set(graph.returns)
    inputs = tuple(spec for spec in case.inputs if spec.label in used)
    layer_names = {node.outputs[0] for node in graph.nodes}
    weights = {name: spec for name, spec in case.model.weights.items() if name.partition(".")[0] in layer_names}
    dynamic = {label: axes for label, axes in case.dynamic.items() if label in used}
    case = replace(case, inputs=inputs, dynamic=dynamic)
    layer = _only_layer(graph, [spec.label for spec in inputs])
    if layer is not None:
        return _with_weights(case, layer, {name.partition(".")[2]: spec for name, spec in weights.items()})
    return _with_weights(case, graph, weights)


def _only_layer(graph: GraphModel, labels: Sequence[str]) -> LayerModel | None:
    """The only layer of the graph, if its inputs are the case's and its outputs are the graph's; else None."""
    if len(graph.nodes) != 1:
        return None
    node: GraphNode = graph.nodes[0]
    if isinstance(node.layer, Operation):
        return None
    return node.layer if list(node.inputs) == list(labels) and node.outputs == graph.returns else None


def _with_weights(case: Case, model: Model, weights: Mapping[str, TensorSpec]) -> Case:
    return replace(case, model=replace(case.model, model=model, weights=dict(weights)))


# Fewer and simpler arguments


def simpler_arguments(case: Case) -> Iterator[Case]:
    """The case without one of the arguments (its default applies), then with a simpler value for one of them."""
    yield from _each_layer(case, _fewer_arguments)
    yield from _each_layer(case, _simpler_arguments)


def _fewer_arguments(layer: LayerModel) -> Iterator[LayerModel]:
    for name in layer.args:
        yield replace(layer, args=_without(layer.args, name))
    for name in layer.forward:
        yield replace(layer, forward=_without(layer.forward, name))


def _simpler_arguments(layer: LayerModel) -> Iterator[LayerModel]:
    for name, value in layer.args.items():
        yield from (replace(layer, args={**layer.args, name: simpler}) for simpler in _simpler_values(value))
    for name, value in layer.forward.items():
        yield from (replace(layer, forward={**layer.forward, name: simpler}) for simpler in _simpler_values(value))


def _simpler_values(value: Any) -> Iterator[Any]:
    """Simpler values for an argument: one number instead of several, a smaller number instead of a larger one."""
    match value:
        case bool() | str() | None:
            return
        case list() | tuple():
            if value:
                yield value[0]
            for index, item in enumerate(value):
                for simpler in _simpler_values(item):
                    yield type(value)([*value[:index], simpler, *value[index + 1 :]])
        case int():
            yield from dict.fromkeys((1, value // 2, value - 1) if value > 1 else (abs(value),))
        case float():
            yield from dict.fromkeys((1.0, 0.0, float(round(value)) if abs(value) < 1e15 else 1.0, round(value, 1)))


def _without(arguments: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {other: value for other, value in arguments.items() if other != name}


def _each_layer(case: Case, edits: Callable[[LayerModel], Iterator[LayerModel]]) -> Iterator[Case]:
    """The case with one edit of one layer, for each layer and each of its ``edits``."""
    model = case.model.model
    match model:
        case LayerModel():
            for edited in edits(model):
                yield with_model(case, edited)
        case SequentialModel(steps):
            for index, step in enumerate(steps):
                for edited in edits(step):
                    yield with_model(case, SequentialModel((*steps[:index], edited, *steps[index + 1 :])))
        case GraphModel(nodes, returns):
            for index, node in enumerate(nodes):
                for edited in edits(node.layer):
                    edited_node = replace(node, layer=edited)
                    yield with_model(case, GraphModel((*nodes[:index], edited_node, *nodes[index + 1 :]), returns))


# Shared


def all_layers(model: Model, edit: Callable[[LayerModel], LayerModel]) -> Model:
    """``model`` with ``edit`` applied to all of its layers."""
    match model:
        case LayerModel():
            return edit(model)
        case SequentialModel(steps):
            return SequentialModel(tuple(map(edit, steps)))
        case GraphModel(nodes, returns):
            return GraphModel(tuple(replace(node, layer=edit(node.layer)) for node in nodes), returns)
        case _:
            return model


def with_model(case: Case, model: Model) -> Case:
    """``case`` with another model and the same weights."""
    return replace(case, model=replace(case.model, model=model))


def map_leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    """``value`` with ``change`` applied to every leaf of its lists and mappings."""
    if isinstance(value, Mapping):
        return {key: map_leaves(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map_leaves(item, change) for item in value)
    return change(value)
