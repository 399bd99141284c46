"""Is this how the layer is called? Names, types, values and the number of inputs, before anything is built.

Only what is certain without torch is refused. What torch alone can know, it says itself, in the
row of the check.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.errors import Problem
from harness.spec.compact import shown
from harness.spec.nearest import nearest, suggestion
from harness.spec.node import Node
from harness.spec.signatures import Parameter, layers, not_layers

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


def problems(node: Node, layer: str, args: Mapping[str, Any], forward: Mapping[str, Any]) -> Iterator[Problem]:
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
