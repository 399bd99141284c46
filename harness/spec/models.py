"""What a spec names as a model -> a :class:`WeightedModel`, once every layer is called as it can be."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from harness.errors import Location, Problem
from harness.spec import layer_rules, tensors
from harness.spec.case import FactoryModel, GraphModel, GraphNode, LayerModel, Model, SequentialModel, WeightedModel
from harness.spec.nearest import listed_names, suggestion
from harness.spec.node import Node
from harness.spec.schema import Case, OtherModel, Step, WiredStep

Named = Case | OtherModel
KINDS = ("layer", "sequential", "graph", "factory")
TAKES = {"args": {"layer", "factory"}, "forward": {"layer"}, "returns": {"graph"}}
NOTHING = Node(Location(""), None)
NAME_ONE = "name one of `layer:`, `sequential:`, `graph:` with `returns:`, `factory:`"


def weighted(named: Named, dtype: str, drawn_from: str) -> WeightedModel:
    """The model with the weights that are given."""
    weights = {name: tensors.tensor(name, spec, dtype, f"{drawn_from}/weights") for name, spec in named.weights.items()}
    return WeightedModel(_model(named), weights)


def problems(
    node: Node, named: Named, labels: Sequence[str], dtype: str, *, allow_import: bool, may_raise: bool = False
) -> Iterator[Problem]:
    """What is wrong with the model at ``node`` when it is given the inputs ``labels``.

    Where the case expects an error (``may_raise``), values that the layer refuses are let through.
    """
    kinds = [kind for kind in KINDS if getattr(named, kind) is not None]
    if len(kinds) != 1:
        wrong = f"{' and '.join(kinds)} together" if kinds else "no model is named"
        where = node.place([kinds[1]], of_key=True) if kinds else node.where
        yield Problem(where, wrong, NAME_ONE)
        return
    for key, takers in TAKES.items():
        if getattr(named, key) and kinds[0] not in takers:
            right = f"it goes with `{'`, `'.join(sorted(takers))}`, or inside each layer of `{kinds[0]}:`"
            yield Problem(node.place([key], of_key=True), f"{key}: does not go with `{kinds[0]}:`", right)
    yield from _problems_of_kind(node, named, labels, allow_import=allow_import, may_raise=may_raise)
    for name, spec in named.weights.items():
        held = (node.child("weights") or node).child(name) or node
        yield from tensors.problems(held, spec, dtype, takes_shape=True)


def _problems_of_kind(
    node: Node, named: Named, labels: Sequence[str], *, allow_import: bool, may_raise: bool
) -> Iterator[Problem]:
    if named.layer is not None:
        if not may_raise:
            yield from layer_rules.value_problems(node, named.layer, named.args)
        if labels:
            yield from layer_rules.input_problems(node, named.layer, len(labels), named.forward)
    elif named.sequential is not None:
        if len(labels) > 1:
            where = node.place(["sequential"], of_key=True)
            yield Problem(where, f"{len(labels)} inputs, but `sequential:` takes one", "use `graph:` for several")
        yield from _chain_problems(node.child("sequential") or node, named.sequential, may_raise=may_raise)
    elif named.graph is not None:
        yield from _graph_problems(node, named.graph, named.returns or [], labels, may_raise=may_raise)
    elif not allow_import:
        where = node.place(["factory"])
        yield Problem(where, f"factory: {named.factory} would run code", "pass --allow-import to allow it")


def call_problems(node: Node) -> Iterator[Problem]:
    """Layers of the model at ``node`` that are called by wrong names or with wrong types.

    It needs no valid case: whatever else is wrong with it, its calls are told in the same go.
    """
    steps = [step for key in ("sequential", "graph") for step in (node.child(key) or NOTHING).items]
    for each in (node, *steps):
        layer = (each.child("layer") or NOTHING).value
        args, forward = ((each.child(key) or NOTHING).plain() for key in ("args", "forward"))
        if isinstance(layer, str) and isinstance(args, dict | None) and isinstance(forward, dict | None):
            yield from layer_rules.problems(each, layer, args or {}, forward or {})


def _chain_problems(node: Node, steps: Sequence[Step], *, may_raise: bool) -> Iterator[Problem]:
    for at, step in enumerate(steps):
        held = node.child(at) or node
        if not may_raise:
            yield from layer_rules.value_problems(held, step.layer, step.args)
        yield from layer_rules.input_problems(held, step.layer, 1, step.forward)


def _graph_problems(
    node: Node, steps: Sequence[WiredStep], returns: Sequence[str], labels: Sequence[str], *, may_raise: bool
) -> Iterator[Problem]:
    graph = node.child("graph") or node
    known, read = dict.fromkeys(labels), set(returns)
    for at, step in enumerate(steps):
        held = graph.child(at) or graph
        if not may_raise:
            yield from layer_rules.value_problems(held, step.layer, step.args)
        yield from layer_rules.input_problems(held, step.layer, len(step.in_), step.forward)
        yield from _unknown_values(held, "in", step.in_, known)
        for place, label in enumerate(step.out):
            if label in known:
                where = held.place(["out", place])
                yield Problem(where, f"{label}: made twice", "give each value a name of its own")
            known[label] = None
        read.update(step.in_)
    if not returns:
        yield Problem(node.place(["graph"], of_key=True), "returns is missing", "add `returns: [y]`")
    yield from _unknown_values(node, "returns", returns, known)
    for label in labels:
        if label not in read:
            yield Problem(
                node.place(["inputs", label], of_key=True), f"{label}: no layer reads it", "read or remove it"
            )


def _unknown_values(node: Node, key: str, labels: Sequence[str], known: Collection[str]) -> Iterator[Problem]:
    for at, label in enumerate(labels):
        if label not in known:
            right = suggestion(label, known, f"known so far: {listed_names(known)}")
            yield Problem(node.place([key, at]), f"{label}: no input and no layer before makes it", right)


def _model(named: Named) -> Model:
    if named.layer is not None:
        return _layer(named.layer, named.args, named.forward)
    if named.sequential is not None:
        return SequentialModel(tuple(_layer(step.layer, step.args, step.forward) for step in named.sequential))
    if named.graph is not None:
        nodes = (
            GraphNode(_layer(step.layer, step.args, step.forward), tuple(step.in_), tuple(step.out))
            for step in named.graph
        )
        return GraphModel(tuple(nodes), tuple(named.returns or ()))
    assert named.factory is not None, "checked before"
    return FactoryModel(named.factory, tensors.frozen(named.args))


def _layer(layer: str, args: Mapping[str, Any], forward: Mapping[str, Any]) -> LayerModel:
    return LayerModel(layer, tensors.frozen(args), tensors.frozen(forward))
