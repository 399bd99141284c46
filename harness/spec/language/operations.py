"""The tensor operations of a graph, by torch's names: ``{op: cat, in: [a, b], args: {dim: 1}, out: y}``.

They are what nets are wired with between their layers. Each is one call of ``torch.<op>``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.errors import Problem
from harness.spec.quoting import format_value, join_names, suggestion
from harness.spec.yaml.tree import Node

WHOLE, NUMBER, BOOLEAN, WHOLES, WORD = "a whole number", "a number", "true or false", "whole numbers", "a word"


@dataclass(frozen=True, slots=True)
class OperationSignature:
    """An operation: how many tensors it takes, and its arguments with their types.

    ``as_list`` is True if the tensors are passed as one list. ``moves_values`` is True if each value of the output is
    one of the inputs. ``other`` stands for a missing second tensor.
    """

    fewest: int
    most: int
    arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    as_list: bool = False
    moves_values: bool = False


_MANY = 64
_REDUCTION = {"dim": (WHOLE, WHOLES), "keepdim": (BOOLEAN,)}

OPERATIONS: Mapping[str, OperationSignature] = {
    "add": OperationSignature(1, 2, {"other": (NUMBER,), "alpha": (NUMBER,)}),
    "sub": OperationSignature(1, 2, {"other": (NUMBER,), "alpha": (NUMBER,)}),
    "mul": OperationSignature(1, 2, {"other": (NUMBER,)}),
    "div": OperationSignature(1, 2, {"other": (NUMBER,), "rounding_mode": (WORD,)}),
    "matmul": OperationSignature(2, 2),
    "cat": OperationSignature(1, _MANY, {"dim": (WHOLE,)}, as_list=True, moves_values=True),
    "stack": OperationSignature(1, _MANY, {"dim": (WHOLE,)}, as_list=True, moves_values=True),
    "reshape": OperationSignature(1, 1, {"shape": (WHOLES,)}, ("shape",), moves_values=True),
    "flatten": OperationSignature(1, 1, {"start_dim": (WHOLE,), "end_dim": (WHOLE,)}, moves_values=True),
    "transpose": OperationSignature(
        1, 1, {"dim0": (WHOLE,), "dim1": (WHOLE,)}, required=("dim0", "dim1"), moves_values=True
    ),
    "permute": OperationSignature(1, 1, {"dims": (WHOLES,)}, ("dims",), moves_values=True),
    "mean": OperationSignature(1, 1, _REDUCTION),
    "sum": OperationSignature(1, 1, _REDUCTION),
    "softmax": OperationSignature(1, 1, {"dim": (WHOLE,)}, ("dim",)),
}


def operation_problems(node: Node, op: str, args: Mapping[str, Any], inputs: int, outputs: int) -> Iterator[Problem]:
    """What is wrong with the operation at ``node``: its name, the number of its tensors, its arguments."""
    signature = OPERATIONS.get(op)
    if signature is None:
        remedy = suggestion(op, OPERATIONS, f"write one of {join_names(OPERATIONS)}, or a `layer:`")
        yield Problem(node.location(["op"]), f"{op}: no such operation", remedy)
        return
    takes_other = "other" in signature.arguments
    if not signature.fewest <= inputs <= signature.most:
        few = str(signature.fewest) if signature.fewest == signature.most else f"{signature.fewest} to {signature.most}"
        yield Problem(node.location(["in"]), f"{op} of {inputs} tensors", f"it takes {few}")
    elif takes_other and (inputs == 1) != ("other" in args):
        message = f"{op} of {inputs} tensor{'s' * (inputs > 1)} {'with' if 'other' in args else 'without'} `other`"
        yield Problem(node.location(["in"]), message, "give two tensors, or one and a number: `args: {other: 2}`")
    if outputs != 1:
        yield Problem(node.location(["out"]), f"{op} returns one tensor, not {outputs}", "give one name")
    for name in signature.required:
        if name not in args:
            remedy = f"add it under `args:`, {' or '.join(signature.arguments[name])}"
            yield Problem(node.location(["args"]), f"{name}: {op} requires this argument", remedy)
    for name, value in args.items():
        types = signature.arguments.get(name, ())
        if not types:
            takes = f"it takes {', '.join(signature.arguments)}" if signature.arguments else "it takes none"
            remedy = suggestion(str(name), signature.arguments, takes)
            yield Problem(node.location(["args", name], of_key=True), f"{name}: {op} has no such argument", remedy)
        elif not any(_is(value, kind) for kind in types):
            message = f"{name}: {op} does not accept {format_value(value)}"
            yield Problem(node.location(["args", name]), message, f"write {' or '.join(types)}")


def _is(value: Any, kind: str) -> bool:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    match kind:
        case "a whole number":
            return is_whole
        case "a number":
            return is_whole or isinstance(value, float)
        case "true or false":
            return isinstance(value, bool)
        case "a word":
            return isinstance(value, str)
    return isinstance(value, list) and all(_is(item, WHOLE) for item in value)
