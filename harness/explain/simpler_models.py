"""The same edit for every layer of a model.

Arguments back at their defaults one at a time, and plainer ones where they must be there.

Fewer layers: a step of a sequence or a node of a graph is left out.

Less asked of a case: expectations, open axes, further shapes, layouts, seeds.
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
    SequentialModel,
    TensorSpec,
)


def each_layer(case: Case, edits: Callable[[LayerModel], Iterator[LayerModel]]) -> Iterator[Case]:
    """The case with one of ``edits`` done to one of its layers, for each edit of each layer."""
    model = case.model.model
    match model:
        case LayerModel():
            for edited in edits(model):
                yield with_model(case, edited)
        case SequentialModel(steps):
            for at, step in enumerate(steps):
                for edited in edits(step):
                    yield with_model(case, SequentialModel((*steps[:at], edited, *steps[at + 1 :])))
        case GraphModel(nodes, returns):
            for at, node in enumerate(nodes):
                for edited in edits(node.layer):
                    one = replace(node, layer=edited)
                    yield with_model(case, GraphModel((*nodes[:at], one, *nodes[at + 1 :]), returns))


def all_layers(model: Model, edit: Callable[[LayerModel], LayerModel]) -> Model:
    """``model`` with ``edit`` done to all of its layers."""
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
    """``case`` with another model under the same weights."""
    return replace(case, model=replace(case.model, model=model))


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """``change`` done to every number in lists and mappings, in the form that they had."""
    if isinstance(value, Mapping):
        return {key: mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(mapped(item, change) for item in value)
    return change(value)


def plainer_arguments(case: Case) -> Iterator[Case]:
    """The case with one argument less, or one that is plainer."""
    yield from each_layer(case, _fewer)
    yield from each_layer(case, _plainer)


def _fewer(layer: LayerModel) -> Iterator[LayerModel]:
    for name in layer.args:
        yield replace(layer, args=_without(layer.args, name))
    for name in layer.forward:
        yield replace(layer, forward=_without(layer.forward, name))


def _plainer(layer: LayerModel) -> Iterator[LayerModel]:
    for name, value in layer.args.items():
        yield from (replace(layer, args={**layer.args, name: other}) for other in plainer(value))
    for name, value in layer.forward.items():
        yield from (replace(layer, forward={**layer.forward, name: other}) for other in plainer(value))


def plainer(value: Any) -> Iterator[Any]:
    """What could stand for an argument's value and is easier to read: one number for several, a smaller one for one."""
    match value:
        case bool() | str() | None:
            return
        case list() | tuple():
            if value:
                yield value[0]
            for at, item in enumerate(value):
                for other in plainer(item):
                    yield type(value)([*value[:at], other, *value[at + 1 :]])
        case int():
            yield from dict.fromkeys((1, value // 2, value - 1) if value > 1 else (abs(value),))
        case float():
            yield from dict.fromkeys((1.0, 0.0, float(round(value)) if abs(value) < 1e15 else 1.0, round(value, 1)))


def _without(arguments: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {other: value for other, value in arguments.items() if other != name}


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


def fewer_promises(case: Case) -> Iterator[Case]:
    """The case with one thing less to hold. What must raise stays: it is what such a case is about."""
    if case.expect.raises is None:
        yield replace(case, expect=Expectation())
    yield replace(case, also=(), dynamic={}, bench=())
    if case.draws > 1:
        yield replace(case, draws=1)
    yield replace(case, also=(), bench=())
    for index in range(len(case.also)):
        yield replace(case, also=case.also[:index] + case.also[index + 1 :])
    for label in case.dynamic:
        yield replace(case, dynamic={other: axes for other, axes in case.dynamic.items() if other != label})
    for index, spec in enumerate(case.inputs):
        plain = replace(spec, layout="contiguous")
        yield replace(case, inputs=(*case.inputs[:index], plain, *case.inputs[index + 1 :]))
    yield replace(case, mode="eval")
    for name in case.model.weights:
        rest = {other: spec for other, spec in case.model.weights.items() if other != name}
        yield replace(case, model=replace(case.model, weights=rest))
    yield replace(case, seed=0)
