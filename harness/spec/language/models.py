"""The model that a spec names: its problems, and the :class:`WeightedModel` made from it.

Layer calls are checked for names, types, values and the number of inputs, before anything is built. Only what is
certainly wrong is refused, without torch. Everything else is left to torch, which reports it in the check's row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.errors import Problem, UsageError
from harness.spec.language.case import (
    FactoryModel,
    GraphModel,
    GraphNode,
    LayerModel,
    Model,
    Operation,
    SequentialModel,
    TensorSpec,
    WeightedModel,
)
from harness.spec.language.data import SpecFolder, tensors_from_file
from harness.spec.language.inputs import files, tensors
from harness.spec.language.layer_calls import as_tensor, input_problems, is_tensor_argument, value_problems
from harness.spec.language.operations import operation_problems
from harness.spec.language.schema import Case, OtherModel, Step, Tensor, WeightsFile, WiredOperation, WiredStep
from harness.spec.model_files import stored_model
from harness.spec.quoting import join_names, suggestion
from harness.spec.yaml.tree import Node

HasModel = Case | OtherModel
KINDS = ("layer", "sequential", "graph", "factory", "file")
KINDS_WITH_KEY = {"args": {"layer", "factory"}, "forward": {"layer", "factory"}, "returns": {"graph"}}
NAME_ONE_MODEL = "name one of `layer:`, `sequential:`, `graph:` with `returns:`, `factory:`, `file:`"


def weighted_model(spec: HasModel, dtype: str, seed_name: str, folder: SpecFolder) -> WeightedModel:
    """The model with the weights that the spec sets."""
    model = _model(spec, _Context(dtype, f"{seed_name}/args", folder))
    if isinstance(spec.weights, WeightsFile):
        return WeightedModel(model, _weights_from_file(spec.weights, dtype, folder), spec.weights.file)
    weights = {
        name: tensors.tensor_spec(name, tensor, dtype, f"{seed_name}/weights", folder)
        for name, tensor in spec.weights.items()
    }
    return WeightedModel(model, weights)


@dataclass(frozen=True, slots=True)
class _Context:
    """What the tensors among a layer's arguments are made with."""

    dtype: str
    seed_name: str
    folder: SpecFolder

    def step(self, index: int) -> _Context:
        """The context of the step at ``index`` of several."""
        return replace(self, seed_name=f"{self.seed_name}/{index}")


def _weights_from_file(weights: WeightsFile, dtype: str, folder: SpecFolder) -> dict[str, TensorSpec]:
    """The tensors of the file, or those below its ``key``. Raises :class:`UsageError`."""
    path = folder.file(weights.file)
    found = tensors_from_file(path, dtype)
    if weights.key is None:
        return found
    prefix = f"{weights.key}."
    below = {name.removeprefix(prefix): spec for name, spec in found.items() if name.startswith(prefix)}
    if not below:
        keys = join_names(dict.fromkeys(name.partition(".")[0] for name in found))
        raise UsageError(f"{path}: no tensors below {weights.key!r}; it holds {keys}")
    return below


def _weights_problems(node: Node, spec: HasModel, dtype: str, folder: SpecFolder) -> Iterator[Problem]:
    weights_node = node.child("weights") or node
    if isinstance(spec.weights, WeightsFile):
        try:
            _weights_from_file(spec.weights, dtype, folder)
        except UsageError as error:
            key = ["key"] if spec.weights.key is not None and "no tensors below" in str(error) else ["file"]
            yield tensors.problem_from(error, weights_node.location(key if weights_node.entries else []))
        return
    for name, tensor in spec.weights.items():
        weight_node = weights_node.child(name) or node
        yield from tensors.problems(weight_node, tensor, dtype, folder, takes_shape=True)


def _model(spec: HasModel, context: _Context) -> Model:
    if spec.layer is not None:
        return _layer(spec.layer, spec.args, spec.forward, context)
    if spec.sequential is not None:
        steps = (
            _layer(step.layer, step.args, step.forward, context.step(index))
            for index, step in enumerate(spec.sequential)
        )
        return SequentialModel(tuple(steps))
    if spec.graph is not None:
        nodes = (
            GraphNode(_wired(step, context.step(index)), tuple(step.in_), tuple(step.out))
            for index, step in enumerate(spec.graph)
        )
        return GraphModel(tuple(nodes), tuple(spec.returns or ()))
    if spec.file is not None:
        return stored_model(context.folder.file(spec.file))
    assert spec.factory is not None, "checked before"
    return FactoryModel(
        files.factory_name(spec.factory, context.folder), tensors.as_tuples(spec.args), tensors.as_tuples(spec.forward)
    )


def _wired(step: WiredStep | WiredOperation, context: _Context) -> LayerModel:
    if isinstance(step, WiredOperation):
        return Operation(step.op, tensors.as_tuples(step.args))
    return _layer(step.layer, step.args, step.forward, context)


def _layer(layer: str, args: Mapping[str, Any], forward: Mapping[str, Any], context: _Context) -> LayerModel:
    made_with = (context.dtype, context.seed_name, context.folder)
    resolved = {
        name: tensors.tensor_spec(name, Tensor.model_validate(as_tensor(value)), *made_with)
        if is_tensor_argument(layer, name, value)
        else tensors.as_tuples(value)
        for name, value in args.items()
    }
    return LayerModel(layer, resolved, tensors.as_tuples(forward))


def problems(
    node: Node,
    spec: HasModel,
    labels: Sequence[str],
    dtype: str,
    folder: SpecFolder,
    *,
    allow_import: bool,
    may_raise: bool = False,
) -> Iterator[Problem]:
    """The problems of the model at ``node`` when it is called with the inputs ``labels``; ``folder`` has its files.

    If the case expects an error (``may_raise``), values that the layer refuses are allowed.
    """
    kinds = [kind for kind in KINDS if getattr(spec, kind) is not None]
    if len(kinds) != 1:
        message = f"{' and '.join(kinds)} together" if kinds else "no model is named"
        where = node.location([kinds[1]], of_key=True) if kinds else node.where
        yield Problem(where, message, NAME_ONE_MODEL)
        return
    for key, allowed_kinds in KINDS_WITH_KEY.items():
        if getattr(spec, key) and kinds[0] not in allowed_kinds:
            remedy = f"write it with `{'`, `'.join(f'{kind}:' for kind in sorted(allowed_kinds))}`"
            if key != "returns" and kinds[0] in {"sequential", "graph"}:
                remedy += f", or inside each layer of `{kinds[0]}:`"
            yield Problem(node.location([key], of_key=True), f"{key}: not allowed with `{kinds[0]}:`", remedy)
    yield from _problems_of_kind(node, spec, labels, folder, allow_import=allow_import, may_raise=may_raise)
    yield from _weights_problems(node, spec, dtype, folder)


def _problems_of_kind(
    node: Node, spec: HasModel, labels: Sequence[str], folder: SpecFolder, *, allow_import: bool, may_raise: bool
) -> Iterator[Problem]:
    if spec.layer is not None:
        if not may_raise:
            yield from value_problems(node, spec.layer, spec.args)
        if labels:
            yield from input_problems(node, spec.layer, len(labels), spec.forward)
    elif spec.sequential is not None:
        if len(labels) > 1:
            where = node.location(["sequential"], of_key=True)
            yield Problem(where, f"{len(labels)} inputs, but `sequential:` takes one", "use `graph:` for several")
        yield from _sequential_problems(node.child("sequential") or node, spec.sequential, may_raise=may_raise)
    elif spec.graph is not None:
        yield from _graph_problems(node, spec.graph, spec.returns or [], labels, may_raise=may_raise)
    else:
        yield from files.outside_problems(node, spec, folder, allow_import=allow_import)


def _sequential_problems(node: Node, steps: Sequence[Step], *, may_raise: bool) -> Iterator[Problem]:
    for index, step in enumerate(steps):
        step_node = node.child(index) or node
        if not may_raise:
            yield from value_problems(step_node, step.layer, step.args)
        yield from input_problems(step_node, step.layer, 1, step.forward)


def _graph_problems(
    node: Node,
    steps: Sequence[WiredStep | WiredOperation],
    returns: Sequence[str],
    labels: Sequence[str],
    *,
    may_raise: bool,
) -> Iterator[Problem]:
    graph = node.child("graph") or node
    available, used = dict.fromkeys(labels), set(returns)
    for index, step in enumerate(steps):
        step_node = graph.child(index) or graph
        if isinstance(step, WiredOperation):
            yield from operation_problems(step_node, step.op, step.args, len(step.in_), len(step.out))
        else:
            if not may_raise:
                yield from value_problems(step_node, step.layer, step.args)
            yield from input_problems(step_node, step.layer, len(step.in_), step.forward)
        yield from _unknown_values(step_node, "in", step.in_, available)
        for position, label in enumerate(step.out):
            if label in available:
                where = step_node.location(["out", position])
                yield Problem(where, f"{label}: defined twice", "give each value its own name")
            available[label] = None
        used.update(step.in_)
    if not returns:
        yield Problem(node.location(["graph"], of_key=True), "returns is missing", "add `returns: [y]`")
    yield from _unknown_values(node, "returns", returns, available)
    for label in labels:
        if label not in used:
            where = node.location(["inputs", label], of_key=True)
            yield Problem(where, f"{label}: no layer uses it", "use it or remove it")


def _unknown_values(node: Node, key: str, labels: Sequence[str], available: Collection[str]) -> Iterator[Problem]:
    for index, label in enumerate(labels):
        if label not in available:
            remedy = suggestion(label, available, f"the values defined so far: {join_names(available)}")
            message = f"{label}: neither an input nor the output of an earlier layer"
            yield Problem(node.location([key, index]), message, remedy)
