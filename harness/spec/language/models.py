"""Is this how the layer is called? Names, types, values and the number of inputs, before anything is built.

Only what is certain without torch is refused. What torch alone can know, it says itself, in the
row of the check.

What a spec names as a model -> a :class:`WeightedModel`, once every layer is called as it can be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from harness.errors import Location, Problem
from harness.spec.language import tensors
from harness.spec.language.case import (
    FactoryModel,
    GraphModel,
    GraphNode,
    LayerModel,
    Model,
    SequentialModel,
    WeightedModel,
)
from harness.spec.language.schema import Case, OtherModel, Step, WiredStep
from harness.spec.quoting import listed_names, nearest, shown, suggestion
from harness.spec.signatures import Parameter, layers, not_layers
from harness.spec.yaml.tree import Node

AT_LEAST: Mapping[str, int] = {
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
SET_BY_HARNESS = {"device": "the target decides it", "dtype": "write `dtype:` beside `args:`"}
HALF_PADDED = ("AvgPool", "MaxPool")


def argument_problems(node: Node, layer: str, args: Mapping[str, Any], forward: Mapping[str, Any]) -> Iterator[Problem]:
    """Names and types that are wrong; ``node`` is the mapping that holds ``layer``, ``args`` and ``forward``.

    Values that are of the right type but refused by the layer are :func:`value_problems`.
    """
    signature = layers().get(layer)
    if signature is None:
        yield _unknown(node, layer)
        return
    yield from _calls(node, "args", layer, args, signature.parameters)
    yield from _calls(node, "forward", f"{layer}.forward", forward, signature.forward)
    meant = {nearest(str(name), signature.parameters) for name in args if name not in signature.parameters}
    for name, parameter in signature.parameters.items():
        if parameter.required and name not in args and name not in meant:
            right = f"add it under `args:`, {parameter.wanted}"
            yield Problem(node.place(["args"]), f"{name}: {layer} needs it, and it is missing", right)


def input_problems(node: Node, layer: str, count: int, forward: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with giving ``count`` tensors to ``forward`` by order, beside its constants."""
    signature = layers().get(layer)
    if signature is None:
        return
    names = signature.tensors
    taken = names[:count]
    required = [name for name, parameter in signature.forward.items() if parameter.required]
    missing = [name for name in required if name not in taken and name not in forward]
    where = node.place(["inputs"], of_key=True)
    plural = "input" if count == 1 else "inputs"
    if count > len(names):
        wrong = f"{count} {plural}, but {layer} takes at most {len(names)}"
        yield Problem(where, wrong, f"it takes {', '.join(names)}")
    elif missing:
        wrong = f"{count} {plural}, but {layer} also needs {', '.join(missing)}"
        yield Problem(where, wrong, f"it takes {', '.join(signature.forward)}")
    for name in forward:
        if name in taken:
            place = node.place(["forward", name], of_key=True)
            yield Problem(place, f"{name}: an input is bound to it already", "give it once")


def value_problems(node: Node, layer: str, args: Mapping[str, Any]) -> Iterator[Problem]:
    """Values of the right type that the layer's own definition rules out."""
    signature = layers().get(layer)
    if signature is None:
        return
    given = {
        name: value
        for name, value in args.items()
        if name in signature.parameters and signature.parameters[name].accepts(value)
    }
    for name, wrong, right in _wrong_values(layer, given):
        yield Problem(node.place(["args", name]), f"{name}: {wrong}", right)


def _unknown(node: Node, layer: str) -> Problem:
    where = node.place(["layer"])
    if layer in not_layers():
        return Problem(where, f"{layer} is not one layer", not_layers()[layer])
    otherwise = "write a torch.nn class, such as MaxPool2d; a module of your own is a `factory:`"
    right = suggestion(layer, layers(), otherwise)
    return Problem(where, f"{layer}: torch.nn has no such layer", right)


def _calls(
    node: Node, key: str, of: str, given: Mapping[str, Any], parameters: Mapping[str, Parameter]
) -> Iterator[Problem]:
    for name, value in given.items():
        if name not in parameters:
            known = f"it takes {', '.join(parameters)}" if parameters else "it takes none"
            right = SET_BY_HARNESS.get(str(name)) or suggestion(str(name), parameters, known)
            yield Problem(node.place([key, name], of_key=True), f"{name}: {of} has no such argument", right)
        elif not parameters[name].accepts(value):
            wrong = f"{name}: {shown(value)} is not what {of} takes"
            yield Problem(node.place([key, name]), wrong, f"write {parameters[name].wanted}")


def _wrong_values(layer: str, args: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name, value in args.items():
        if name in AT_LEAST and any(number < AT_LEAST[name] for number in _numbers(value)):
            yield name, f"{shown(value)} is too small", f"at least {AT_LEAST[name]}"
    if "kernel_size" in args and any(number < 0 for number in _numbers(args.get("padding"))):
        yield "padding", f"{shown(args['padding'])} is negative", "at least 0"
    if layer.startswith(HALF_PADDED) and _is_over_padded(args):
        yield (
            "padding",
            f"{shown(args['padding'])} is more than half of kernel_size",
            "at most half of it, rounded down",
        )
    if args.get("divisor_override") == 0:
        yield "divisor_override", "0 divides nothing", "any other whole number, or null"
    if "Dropout" in layer and not 0 <= args.get("p", 0) <= 1:
        yield "p", f"{shown(args['p'])} is not a probability", "from 0 to 1"
    if layer == "RReLU" and args.get("lower", 1 / 8) > args.get("upper", 1 / 3):
        yield ("lower" if "lower" in args else "upper"), "lower is above upper", "lower must not be above upper"
    for whole, part in DIVISIBLE:
        if args.get(part, 0) > 0 and args.get(whole, 0) % args[part]:
            yield whole, f"{args[whole]} is not divisible by {part}", f"a multiple of {args[part]}"


def _is_over_padded(args: Mapping[str, Any]) -> bool:
    """Pools refuse padding beyond half of ``kernel_size``; they do not count dilation."""
    kernels, paddings = (_spread(_numbers(args.get(name))) for name in ("kernel_size", "padding"))
    return any(padding > kernel // 2 for kernel, padding in zip(kernels, paddings, strict=False))


def _spread(numbers: list[int]) -> list[int]:
    """One number stands for all three dimensions."""
    return numbers * 3 if len(numbers) == 1 else numbers


def _numbers(value: Any) -> list[Any]:
    items = value if isinstance(value, list | tuple) else [value]
    return [item for item in items if isinstance(item, int | float) and not isinstance(item, bool)]


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
            yield from value_problems(node, named.layer, named.args)
        if labels:
            yield from input_problems(node, named.layer, len(labels), named.forward)
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
            yield from argument_problems(each, layer, args or {}, forward or {})


def _chain_problems(node: Node, steps: Sequence[Step], *, may_raise: bool) -> Iterator[Problem]:
    for at, step in enumerate(steps):
        held = node.child(at) or node
        if not may_raise:
            yield from value_problems(held, step.layer, step.args)
        yield from input_problems(held, step.layer, 1, step.forward)


def _graph_problems(
    node: Node, steps: Sequence[WiredStep], returns: Sequence[str], labels: Sequence[str], *, may_raise: bool
) -> Iterator[Problem]:
    graph = node.child("graph") or node
    known, read = dict.fromkeys(labels), set(returns)
    for at, step in enumerate(steps):
        held = graph.child(at) or graph
        if not may_raise:
            yield from value_problems(held, step.layer, step.args)
        yield from input_problems(held, step.layer, len(step.in_), step.forward)
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
