"""An exported graph, with every value in it given out, and its nodes in words.

Which torch module an exported node belongs to, by what the exporter wrote beside it.

``torch.onnx.export(dynamo=False)`` names nodes by the scope they were traced in: ``/features/features.0/Conv``, where
a child of a Sequential repeats its parent's name. ``dynamo=True`` writes the full path of each scope into the metadata
``pkg.torch.onnx.name_scopes``.

Pairs values of an exported graph with what torch's modules answered.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, helper, inliner, shape_inference

from harness.inside.divergence import ModuleCall, Node
from harness.onnx_arrays import to_array

Array = NDArray[Any]
MOST_ELEMENTS = 8
FOLDED = frozenset({"Constant"})
"""Nodes that compute nothing."""


def read(path: Path) -> ModelProto:
    """The model at ``path``, its own functions written out in the graph, with the types of values as far as known."""
    model = onnx.load(str(path))
    if model.functions:
        model = inliner.inline_local_functions(model)
    return shape_inference.infer_shapes(model)


def giving_all(model: ModelProto) -> ModelProto:
    """A copy of ``model`` with every tensor that a node computes among its outputs, after its own."""
    opened = ModelProto()
    opened.CopyFrom(model)
    given = {value.name for value in opened.graph.output}
    types = {value.name: value.type for value in opened.graph.value_info}
    for node in opened.graph.node:
        for name in node.output:
            if not name or name in given or (name in types and not types[name].HasField("tensor_type")):
                continue
            given.add(name)
            # The shape is left open: inference before opset 22 is wrong about some pools.
            kind = types[name].tensor_type.elem_type if name in types else 0
            info = (
                helper.make_tensor_value_info(name, kind, None) if kind else helper.make_empty_tensor_value_info(name)
            )
            opened.graph.output.append(info)
    del opened.graph.value_info[:]
    return opened


def described(node: NodeProto, values: Mapping[str, Array]) -> Node:
    """``node`` in words; ``values`` are what its inputs held, as far as they are known."""
    return Node(
        name=node.name,
        op_type=node.op_type if node.domain in {"", "ai.onnx"} else f"{node.domain}::{node.op_type}",
        inputs=tuple(_input(name, values.get(name)) for name in node.input),
        outputs=tuple(node.output),
        attributes=tuple(f"{attribute.name}={_attribute(attribute)}" for attribute in node.attribute),
    )


def _input(name: str, value: Array | None) -> str:
    if not name or value is None:
        return name or "-"
    if value.size <= MOST_ELEMENTS and value.ndim <= 1:
        return f"{name}={np.array2string(value, separator=', ', precision=6)}"
    return f"{name}: {value.dtype}{list(value.shape)}"


def _attribute(attribute: AttributeProto) -> str:
    value = helper.get_attribute_value(attribute)
    if attribute.type == AttributeProto.TENSOR:
        return _input("", None) if value is None else _tensor(to_array(value))
    if attribute.type in {AttributeProto.GRAPH, AttributeProto.GRAPHS}:
        return "{...}"
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _tensor(array: Array) -> str:
    if array.size <= MOST_ELEMENTS:
        return np.array2string(array, separator=", ", precision=6)
    return f"{array.dtype}{list(array.shape)}"


NAME_SCOPES = "pkg.torch.onnx.name_scopes"
REPEATED = re.compile(r"_\d+$")
"""What a scope's name ends with when the same module was called again."""


def module_of(node: NodeProto, modules: Collection[str]) -> str | None:
    """The path of the module that ``node`` was written for, among the paths ``modules``; None where it is not told."""
    for entry in node.metadata_props:
        if entry.key == NAME_SCOPES:
            return _deepest([str(scope) for scope in ast.literal_eval(entry.value)], modules)
    if node.name.startswith("/"):
        return _followed(node.name.split("/")[1:-1], modules)
    return None


def _deepest(scopes: list[str], modules: Collection[str]) -> str | None:
    return next((scope for scope in reversed(scopes) if scope in modules), None)


def _followed(parts: list[str], modules: Collection[str]) -> str | None:
    """The path that the parts of a traced scope lead to, each a child of the one before."""
    path = ""
    for part in parts:
        child = next((one for one in _children(path, part) if _is_path(one, modules)), None)
        if child is None:
            return None
        path = child
    return path if path in modules else None


def _children(path: str, part: str) -> list[str]:
    """The paths that ``part`` may mean below ``path``: a child's name, or the end of ``path`` and then the name."""
    names = dict.fromkeys((part, REPEATED.sub("", part)))
    relative = [f"{path}.{name}" if path else name for name in names]
    pieces = path.split(".") if path else []
    ends = [".".join(pieces[at:]) for at in range(len(pieces))]
    return relative + [
        f"{path}{name.removeprefix(end)}" for name in names for end in ends if name.startswith(f"{end}.")
    ]


def _is_path(path: str, modules: Collection[str]) -> bool:
    return path in modules or any(module.startswith(f"{path}.") for module in modules)


How = Literal["the exporter's own names", "shape and values", "values, as it was folded into the module before"]


@dataclass(frozen=True, slots=True)
class Match:
    """A value of the graph that stands for an output of a module's call; ``how`` says what the pairing rests on."""

    value: str
    call: ModuleCall
    expected: Array
    how: How


def matched(graph: GraphProto, values: Mapping[str, Array], calls: Sequence[ModuleCall]) -> list[Match]:
    """The pairs that can be told, each call's outputs at most once.

    By scope: the values that leave a module's nodes, where they are as many as the module's outputs and have their
    shapes. A value that is another module's answer, one that has no nodes of its own, stands for that module: a batch
    normalization is folded into the convolution before it. Else a value of the same shape and dtype that is close to
    the module's answer, if there is one.
    """
    by_path: dict[str, list[ModuleCall]] = defaultdict(list)
    for call in calls:
        by_path[call.path].append(call)
    pairs: list[Match] = []
    left: list[ModuleCall] = []
    for path, own in by_path.items():
        leaving = _leaving(graph, path, by_path.keys())
        wanted = [(call, output) for call in own for output in call.outputs]
        known = [name for name in leaving if name in values]
        fitting = _in_order(known, wanted, values)
        pairs += [Match(name, call, output, "the exporter's own names") for name, call, output in fitting]
        found = {id(call) for _, call, _ in fitting}
        left += [call for call in own if id(call) not in found]
    pairs = [_folded(pair, values[pair.value], left) for pair in pairs]
    taken = {pair.value for pair in pairs}
    paired = {id(pair.call) for pair in pairs}
    for call in (call for call in left if id(call) not in paired):
        for output in call.outputs:
            alike = next((name for name, value in values.items() if name not in taken and _alike(value, output)), None)
            if alike is not None:
                taken.add(alike)
                pairs.append(Match(alike, call, output, "shape and values"))
    return pairs


def owner(node: NodeProto, calls: Sequence[ModuleCall]) -> ModuleCall | None:
    """The module call that ``node`` was written for, the first of that module; None where it is not told."""
    path = module_of(node, {call.path for call in calls})
    return next((call for call in calls if call.path == path), None)


def folded_away(values: Mapping[str, Array], calls: Sequence[ModuleCall], pairs: Collection[Match]) -> bool:
    """True where some call's answer stands nowhere in the graph: its weights went into those of another module."""
    paired = {id(pair.call) for pair in pairs}
    left = [output for call in calls if id(call) not in paired for output in call.outputs]
    return not all(any(_alike(value, output) for value in values.values()) for output in left)


def _folded(pair: Match, value: Array, left: Sequence[ModuleCall]) -> Match:
    """``pair``, or the module that was folded into the same node, where the value is that module's answer."""
    if _alike(value, pair.expected):
        return pair
    answers = ((call, output) for call in left for output in call.outputs)
    folded = next(((call, output) for call, output in answers if _alike(value, output)), None)
    return pair if folded is None else Match(pair.value, *folded, "values, as it was folded into the module before")


def _leaving(graph: GraphProto, path: str, paths: Any) -> list[str]:
    """The values that nodes of the module at ``path`` compute and others read, in the graph's order."""
    own = [node for node in graph.node if module_of(node, paths) == path]
    inside = {id(node) for node in own}
    read = {name for node in graph.node if id(node) not in inside for name in node.input}
    read |= {output.name for output in graph.output}
    return [name for node in own for name in node.output if name in read]


def _in_order(
    names: Sequence[str], wanted: Sequence[tuple[ModuleCall, Array]], values: Mapping[str, Array]
) -> list[tuple[str, ModuleCall, Array]]:
    """Each wanted output with the first name left that has its shape."""
    left = list(names)
    found = []
    for call, output in wanted:
        fits = next((name for name in left if values[name].shape == output.shape and _kind(values[name], output)), None)
        if fits is not None:
            left.remove(fits)
            found.append((fits, call, output))
    return found


def _kind(one: Array, other: Array) -> bool:
    return one.dtype == other.dtype


def _alike(value: Array, output: Array) -> bool:
    if value.shape != output.shape or value.dtype != output.dtype or not value.size:
        return False
    wide, other = value.astype(np.float64), output.astype(np.float64)
    largest = np.abs(other, where=np.isfinite(other), out=np.zeros_like(other)).max()
    with np.errstate(all="ignore"):
        return bool(np.isclose(wide, other, rtol=1e-3, atol=1e-5 * largest, equal_nan=True).all())
