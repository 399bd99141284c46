"""Calls of layers: wrong names and types of arguments, values that a layer refuses, the number of its inputs.

Only what is certainly wrong is refused, without torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.errors import Location, Problem, SpecError
from harness.spec.language.data import SpecFolder
from harness.spec.language.inputs import tensors
from harness.spec.language.schema import Tensor
from harness.spec.quoting import closest_name, format_value, suggestion
from harness.spec.signatures import Parameter, layer_signatures, non_layers
from harness.spec.yaml.strict import validated
from harness.spec.yaml.tree import Node

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


def is_tensor_argument(layer: str, name: str, value: Any) -> bool:
    """True for an argument that the layer takes as a tensor: written as an input is, or as a list of its values."""
    signature = layer_signatures().get(layer)
    parameter = None if signature is None else signature.parameters.get(name)
    return parameter is not None and "tensor" in parameter.types and isinstance(value, dict | list)


def as_tensor(value: dict[str, Any] | list[Any]) -> dict[str, Any]:
    """``value``, an argument that is a tensor, as an input is written."""
    return {"values": value} if isinstance(value, list) else value


def _tensor_argument_problems(node: Node, value: dict[str, Any] | list[Any], dtype: str) -> Iterator[Problem]:
    """What is impossible about the tensor at ``node``, which is an argument of a layer."""
    as_mapping = Node(node.where, {"values": node}) if isinstance(value, list) else node
    try:
        tensor = validated(Tensor, as_mapping)
    except SpecError as error:
        yield from error.problems
    else:
        yield from tensors.problems(as_mapping, tensor, dtype, SpecFolder())


def call_problems(node: Node) -> Iterator[Problem]:
    """Layers of the model at ``node`` that are called with wrong names or types.

    The case need not be valid: its calls are reported together with whatever else is wrong.
    """
    dtype = (node.child("dtype") or NOTHING).value
    steps = [step for key in ("sequential", "graph") for step in (node.child(key) or NOTHING).items]
    for each in (node, *steps):
        layer = (each.child("layer") or NOTHING).value
        args, forward = ((each.child(key) or NOTHING).plain() for key in ("args", "forward"))
        if isinstance(layer, str) and isinstance(args, dict | None) and isinstance(forward, dict | None):
            yield from argument_problems(each, layer, args or {}, forward or {}, str(dtype or "float32"))


def argument_problems(
    node: Node, layer: str, args: Mapping[str, Any], forward: Mapping[str, Any], dtype: str = "float32"
) -> Iterator[Problem]:
    """Wrong names and types; ``node`` is the mapping that holds ``layer``, ``args`` and ``forward``.

    :func:`value_problems` finds values of the right type that the layer refuses.
    """
    signature = layer_signatures().get(layer)
    if signature is None:
        yield _unknown_layer(node, layer)
        return
    as_tensors = {name: value for name, value in args.items() if is_tensor_argument(layer, name, value)}
    for name, value in as_tensors.items():
        yield from _tensor_argument_problems((node.child("args") or node).child(name) or node, value, dtype)
    others = {name: value for name, value in args.items() if name not in as_tensors}
    yield from _wrong_arguments(node, "args", layer, others, signature.parameters)
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
