"""The model that a spec names: its problems, and the :class:`WeightedModel` made from it.

Layer calls are checked for names, types, values and the number of inputs, before anything is built. Only what is
certainly wrong is refused, without torch. Everything else is left to torch, which reports it in the check's row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from harness.errors import Location, Problem, UsageError
from harness.spec.language import files, tensors
from harness.spec.language.case import (
    FactoryModel,
    GraphModel,
    GraphNode,
    LayerModel,
    Model,
    Operation,
    SequentialModel,
    WeightedModel,
)
from harness.spec.language.data import SpecFolder, weights_from_file
from harness.spec.language.operations import operation_problems
from harness.spec.language.schema import Case, OtherModel, Step, WeightsFile, WiredOperation, WiredStep
from harness.spec.model_files import stored_model
from harness.spec.quoting import closest_name, format_value, join_names, suggestion
from harness.spec.signatures import Parameter, layer_signatures, non_layers
from harness.spec.yaml.tree import Node

HasModel = Case | OtherModel
KINDS = ("layer", "sequential", "graph", "factory", "file")
KINDS_WITH_KEY = {"args": {"layer", "factory"}, "forward": {"layer", "factory"}, "returns": {"graph"}}
NAME_ONE_MODEL = "name one of `layer:`, `sequential:`, `graph:` with `returns:`, `factory:`, `file:`"
NOTHING = Node(Location(""), None)

MIN_VALUES: Mapping[str, int] = {
    "kernel_size": 1,
    "stride": 1,
    "dilation": 1,
    "groups": 1,
    "num_groups": 1,
    "num_heads": 1,
    "num_layers": 1,
    "hidden_size": 1,
    "upscale_factor": 1,
    "downscale_factor": 1,
    "in_features": 0,
    "out_features": 0,
    "in_channels": 0,
    "out_channels": 0,
    "num_features": 0,
    "num_parameters": 0,
    "num_embeddings": 0,
    "embedding_dim": 0,
}
DIVISIBLE = (
    ("in_channels", "groups"),
    ("out_channels", "groups"),
    ("num_channels", "num_groups"),
    ("embed_dim", "num_heads"),
)
SET_BY_HARNESS = {"device": "the target sets the device", "dtype": "write `dtype:` beside `args:`"}
PADDED_BY_HALF_AT_MOST = ("AvgPool", "MaxPool")


def weighted_model(spec: HasModel, dtype: str, seed_name: str, folder: SpecFolder) -> WeightedModel:
    """The model with the weights that the spec sets."""
    if isinstance(spec.weights, WeightsFile):
        return WeightedModel(_model(spec, folder), weights_from_file(spec.weights, dtype, folder), spec.weights.file)
    weights = {
        name: tensors.tensor_spec(name, tensor, dtype, f"{seed_name}/weights", folder)
        for name, tensor in spec.weights.items()
    }
    return WeightedModel(_model(spec, folder), weights)


def _weights_problems(node: Node, spec: HasModel, dtype: str, folder: SpecFolder) -> Iterator[Problem]:
    weights_node = node.child("weights") or node
    if isinstance(spec.weights, WeightsFile):
        try:
            weights_from_file(spec.weights, dtype, folder)
        except UsageError as error:
            key = ["key"] if spec.weights.key is not None and "no tensors below" in str(error) else ["file"]
            yield tensors.problem_from(error, weights_node.location(key if weights_node.entries else []))
        return
    for name, tensor in spec.weights.items():
        weight_node = weights_node.child(name) or node
        yield from tensors.problems(weight_node, tensor, dtype, folder, takes_shape=True)


def _model(spec: HasModel, folder: SpecFolder) -> Model:
    if spec.layer is not None:
        return _layer(spec.layer, spec.args, spec.forward)
    if spec.sequential is not None:
        return SequentialModel(tuple(_layer(step.layer, step.args, step.forward) for step in spec.sequential))
    if spec.graph is not None:
        nodes = (GraphNode(_wired(step), tuple(step.in_), tuple(step.out)) for step in spec.graph)
        return GraphModel(tuple(nodes), tuple(spec.returns or ()))
    if spec.file is not None:
        return stored_model(folder.file(spec.file))
    assert spec.factory is not None, "checked before"
    return FactoryModel(
        files.factory_name(spec.factory, folder), tensors.as_tuples(spec.args), tensors.as_tuples(spec.forward)
    )


def _wired(step: WiredStep | WiredOperation) -> LayerModel:
    if isinstance(step, WiredOperation):
        return Operation(step.op, tensors.as_tuples(step.args))
    return _layer(step.layer, step.args, step.forward)


def _layer(layer: str, args: Mapping[str, Any], forward: Mapping[str, Any]) -> LayerModel:
    return LayerModel(layer, tensors.as_tuples(args), tensors.as_tuples(forward))


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


def call_problems(node: Node) -> Iterator[Problem]:
    """Layers of the model at ``node`` that are called with wrong names or types.

    The case need not be valid: its calls are reported together with whatever else is wrong.
    """
    steps = [step for key in ("sequential", "graph") for step in (node.child(key) or NOTHING).items]
    for each in (node, *steps):
        layer = (each.child("layer") or NOTHING).value
        args, forward = ((each.child(key) or NOTHING).plain() for key in ("args", "forward"))
        if isinstance(layer, str) and isinstance(args, dict | None) and isinstance(forward, dict | None):
            yield from argument_problems(each, layer, args or {}, forward or {})


def argument_problems(node: Node, layer: str, args: Mapping[str, Any], forward: Mapping[str, Any]) -> Iterator[Problem]:
    """Wrong names and types; ``node`` is the mapping that holds ``layer``, ``args`` and ``forward``.

    :func:`value_problems` finds values of the right type that the layer refuses.
    """
    signature = layer_signatures().get(layer)
    if signature is None:
        yield _unknown_layer(node, layer)
        return
    yield from _wrong_arguments(node, "args", layer, args, signature.parameters)
    yield from _wrong_arguments(node, "forward", f"{layer}.forward", forward, signature.forward)
    misspelled = {closest_name(str(name), signature.parameters) for name in args if name not in signature.parameters}
    for name, parameter in signature.parameters.items():
        if parameter.required and name not in args and name not in misspelled:
            remedy = f"add it under `args:`, {parameter.expected_types}"
            yield Problem(node.location(["args"]), f"{name}: {layer} requires this argument", remedy)


def _unknown_layer(node: Node, layer: str) -> Problem:
    where = node.location(["layer"])
    if layer in non_layers():
        return Problem(where, f"{layer} is not one layer", non_layers()[layer])
    otherwise = "write a torch.nn class, such as MaxPool2d; for a module of your own, write `factory:`"
    remedy = suggestion(layer, layer_signatures(), otherwise)
    return Problem(where, f"{layer}: torch.nn has no such layer", remedy)


def _wrong_arguments(
    node: Node, key: str, function: str, arguments: Mapping[str, Any], parameters: Mapping[str, Parameter]
) -> Iterator[Problem]:
    for name, value in arguments.items():
        if name not in parameters:
            takes = f"it takes {', '.join(parameters)}" if parameters else "it takes none"
            remedy = SET_BY_HARNESS.get(str(name)) or suggestion(str(name), parameters, takes)
            yield Problem(node.location([key, name], of_key=True), f"{name}: {function} has no such argument", remedy)
        elif not parameters[name].accepts(value):
            message = f"{name}: {function} does not accept {format_value(value)}"
            yield Problem(node.location([key, name]), message, f"write {parameters[name].expected_types}")


def input_problems(node: Node, layer: str, count: int, forward: Mapping[str, Any]) -> Iterator[Problem]:
    """The problems of passing ``count`` tensors to ``forward`` by order, beside its constants."""
    signature = layer_signatures().get(layer)
    if signature is None:
        return
    names = signature.tensor_parameters
    bound = names[:count]
    required = [name for name, parameter in signature.forward.items() if parameter.required]
    missing = [name for name in required if name not in bound and name not in forward]
    where = node.location(["inputs"], of_key=True)
    plural = "input" if count == 1 else "inputs"
    if count > len(names):
        message = f"{count} {plural}, but {layer} takes at most {len(names)}"
        yield Problem(where, message, f"it takes {', '.join(names)}")
    elif missing:
        message = f"{count} {plural}, but {layer} also needs {', '.join(missing)}"
        yield Problem(where, message, f"it takes {', '.join(signature.forward)}")
    for name in forward:
        if name in bound:
            location = node.location(["forward", name], of_key=True)
            yield Problem(location, f"{name}: an input is already bound to it", "give it once")


def value_problems(node: Node, layer: str, args: Mapping[str, Any]) -> Iterator[Problem]:
    """Values of the right type that the layer refuses."""
    signature = layer_signatures().get(layer)
    if signature is None:
        return
    valid = {
        name: value
        for name, value in args.items()
        if name in signature.parameters and signature.parameters[name].accepts(value)
    }
    for name, message, remedy in _refused_values(layer, valid):
        yield Problem(node.location(["args", name]), f"{name}: {message}", remedy)


def _refused_values(layer: str, args: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Each refused value as its argument, the message and the remedy."""
    for name, value in args.items():
        if name in MIN_VALUES and any(number < MIN_VALUES[name] for number in _numbers(value)):
            yield name, f"{format_value(value)} is too small", f"at least {MIN_VALUES[name]}"
    if "kernel_size" in args and any(number < 0 for number in _numbers(args.get("padding"))):
        yield "padding", f"{format_value(args['padding'])} is negative", "at least 0"
    if layer.startswith(PADDED_BY_HALF_AT_MOST) and _is_over_padded(args):
        message = f"{format_value(args['padding'])} is more than half of kernel_size"
        yield "padding", message, "at most half of it, rounded down"
    if args.get("divisor_override") == 0:
        yield "divisor_override", "0 is not a divisor", "write any other whole number, or null"
    if "Dropout" in layer and not 0 <= args.get("p", 0) <= 1:
        yield "p", f"{format_value(args['p'])} is not a probability", "from 0 to 1"
    if layer == "RReLU" and args.get("lower", 1 / 8) > args.get("upper", 1 / 3):
        yield ("lower" if "lower" in args else "upper"), "lower is above upper", "lower must not be above upper"
    for whole, part in DIVISIBLE:
        if args.get(part, 0) > 0 and args.get(whole, 0) % args[part]:
            yield whole, f"{args[whole]} is not divisible by {part}", f"a multiple of {args[part]}"


def _is_over_padded(args: Mapping[str, Any]) -> bool:
    """Pools refuse padding of more than half of ``kernel_size``; dilation does not count."""
    kernels, paddings = (_per_dimension(_numbers(args.get(name))) for name in ("kernel_size", "padding"))
    return any(padding > kernel // 2 for kernel, padding in zip(kernels, paddings, strict=False))


def _per_dimension(numbers: list[int]) -> list[int]:
    """The numbers by dimension: a single one applies to all three."""
    return numbers * 3 if len(numbers) == 1 else numbers


def _numbers(value: Any) -> list[Any]:
    items = value if isinstance(value, list | tuple) else [value]
    return [item for item in items if isinstance(item, int | float) and not isinstance(item, bool)]
