"""Match the values of an exported graph with the outputs of torch's modules.

:func:`match_values` matches by the scope that the exporter wrote for each node (:func:`owners`), else by shape and
values. :func:`with_all_values_as_outputs` prepares the graph; :func:`describe_node` puts a node into words.

``torch.onnx.export(dynamo=False)`` names nodes by the scope they were traced in: ``/features/features.0/Conv``, where
a child of a Sequential repeats its parent's name. ``dynamo=True`` writes the full path of each scope into the metadata
``pkg.torch.onnx.name_scopes``.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, helper

from harness.data_files.onnx_files import to_array
from harness.inside.nodes.divergence import ModuleCall, Node

Array = NDArray[Any]

MAX_PRINTED_ELEMENTS = 8
CONSTANT_OPERATORS = frozenset({"Constant"})
"""Operators that compute nothing."""

NAME_SCOPES = "pkg.torch.onnx.name_scopes"
REPEATED_CALL = re.compile(r"_\d+$")
"""The end of a scope's name if the same module was called again."""

MatchedBy = Literal["the exporter's scope names", "shape and values", "its place: it is folded into this node"]
FOLDED: MatchedBy = "its place: it is folded into this node"
FOLDED_CLASSES = frozenset({"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"})
"""Modules that an exporter folds into the convolution or linear layer before them."""


@dataclass(frozen=True, slots=True)
class Match:
    """A value of the graph matched with an output of a module's call; ``matched_by`` says how."""

    value: str
    call: ModuleCall
    expected: Array
    matched_by: MatchedBy


def with_all_values_as_outputs(model: ModelProto) -> ModelProto:
    """A copy of ``model`` with every tensor that a node computes as an output, after the model's own outputs."""
    copy = ModelProto()
    copy.CopyFrom(model)
    outputs = {value.name for value in copy.graph.output}
    types = {value.name: value.type for value in copy.graph.value_info}
    for node in copy.graph.node:
        for name in node.output:
            if not name or name in outputs or (name in types and not types[name].HasField("tensor_type")):
                continue
            outputs.add(name)
            # The shape is left open: inference before opset 22 is wrong about some pooling operators.
            elem_type = types[name].tensor_type.elem_type if name in types else 0
            if elem_type:
                copy.graph.output.append(helper.make_tensor_value_info(name, elem_type, None))
            else:
                copy.graph.output.append(helper.make_empty_tensor_value_info(name))
    del copy.graph.value_info[:]
    return copy


def match_values(graph: GraphProto, values: Mapping[str, Array], calls: Sequence[ModuleCall]) -> list[Match]:
    """The values of the graph that can be matched with outputs of ``calls``, each call's outputs at most once.

    First by scope: the values that leave a module's nodes, if there are as many as the module's outputs and they have
    their shapes. A value that has the outputs of another module, one without nodes of its own, is matched with that
    module: a batch normalization is folded into the convolution before it. Else a value of the same shape and dtype
    that is close to the module's output, if there is one.
    """
    calls_by_path: dict[str, list[ModuleCall]] = defaultdict(list)
    for call in calls:
        calls_by_path[call.path].append(call)
    paths = owners(graph.node, [call.path for call in calls])
    matches: list[Match] = []
    unmatched: list[ModuleCall] = []
    for path, module_calls in calls_by_path.items():
        leaving = [name for name in _leaving_values(graph, path, paths) if name in values]
        outputs = [(call, output) for call in module_calls for output in call.outputs]
        fitting = _in_order(leaving, outputs, values)
        matches += [Match(name, call, output, "the exporter's scope names") for name, call, output in fitting]
        fitted = {id(call) for _, call, _ in fitting}
        unmatched += [call for call in module_calls if id(call) not in fitted]
    without_nodes = [call for call in unmatched if not _leaving_values(graph, call.path, paths)]
    following = {id(call): after for call, after in pairwise(calls) if any(after is each for each in without_nodes)}
    matches = [
        _or_folded_module(match, values[match.value], unmatched, following.get(id(match.call))) for match in matches
    ]
    used = {match.value for match in matches}
    matched_calls = {id(match.call) for match in matches}
    for call in (call for call in unmatched if id(call) not in matched_calls):
        for output in call.outputs:
            name = next((name for name, value in values.items() if name not in used and _close(value, output)), None)
            if name is not None:
                used.add(name)
                matches.append(Match(name, call, output, "shape and values"))
    return matches


def owning_calls(nodes: Sequence[NodeProto], calls: Sequence[ModuleCall]) -> dict[str, ModuleCall]:
    """The module call that each node was exported for, the first of that module, by the node's first output."""
    first = {call.path: call for call in reversed(calls)}
    return {name: first[path] for name, path in owners(nodes, [call.path for call in calls]).items()}


def has_folded_calls(values: Mapping[str, Array], calls: Sequence[ModuleCall], matches: Collection[Match]) -> bool:
    """True if some call's output is not in the graph: its weights were folded into those of another module."""
    matched_calls = {id(match.call) for match in matches}
    unmatched = [output for call in calls if id(call) not in matched_calls for output in call.outputs]
    return not all(any(_close(value, output) for value in values.values()) for output in unmatched)


def _or_folded_module(
    match: Match, value: Array, unmatched: Sequence[ModuleCall], following: ModuleCall | None
) -> Match:
    """``match``, or the match with the module folded into the same node.

    That is a batch normalization without nodes of its own that is called next (``following``), because a convolution
    that has swallowed it no longer computes what the convolution's module does; else a module whose output the value
    is.
    """
    if _close(value, match.expected):
        return match
    if following is not None and following.class_name in FOLDED_CLASSES and len(following.outputs) == 1:
        (output,) = following.outputs
        if _same_type(value, output):
            return Match(match.value, following, output, FOLDED)
    outputs = ((call, output) for call in unmatched for output in call.outputs)
    folded = next(((call, output) for call, output in outputs if _close(value, output)), None)
    return match if folded is None else Match(match.value, *folded, FOLDED)


def _leaving_values(graph: GraphProto, path: str, paths: Mapping[str, str]) -> list[str]:
    """The values that nodes of the module at ``path`` compute and others read, in the graph's order."""
    module_nodes = [node for node in graph.node if paths.get(first_output(node)) == path]
    node_ids = {id(node) for node in module_nodes}
    read_outside = {name for node in graph.node if id(node) not in node_ids for name in node.input}
    read_outside |= {output.name for output in graph.output}
    return [name for node in module_nodes for name in node.output if name in read_outside]


def _in_order(
    names: Sequence[str], outputs: Sequence[tuple[ModuleCall, Array]], values: Mapping[str, Array]
) -> list[tuple[str, ModuleCall, Array]]:
    """Each output with the first remaining name whose value has its shape and dtype."""
    remaining = list(names)
    fitting = []
    for call, output in outputs:
        name = next((name for name in remaining if _same_type(values[name], output)), None)
        if name is not None:
            remaining.remove(name)
            fitting.append((name, call, output))
    return fitting


def _same_type(value: Array, output: Array) -> bool:
    return value.shape == output.shape and value.dtype == output.dtype


def _close(value: Array, output: Array) -> bool:
    if not _same_type(value, output) or not value.size:
        return False
    actual, expected = value.astype(np.float64), output.astype(np.float64)
    largest = np.abs(expected, where=np.isfinite(expected), out=np.zeros_like(expected)).max()
    with np.errstate(all="ignore"):
        return bool(np.isclose(actual, expected, rtol=1e-3, atol=1e-5 * largest, equal_nan=True).all())


def owners(nodes: Sequence[NodeProto], called: Sequence[str]) -> dict[str, str]:
    """The path of the module that each node was exported for, by the node's first output.

    ``called`` are the paths of the modules' calls in order. The scopes of the older exporter leave out modules that are
    not called themselves, such as a ``ModuleDict``, so layers of different paths may look like calls of one. Those, and
    scopes that lead nowhere, belong to the calls that fit them in order, if there are as many.
    """
    modules = set(called)
    found = {first_output(node): path for node in nodes if (path := module_of(node, modules)) is not None}
    traced: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        if node.name.startswith("/") and all(entry.key != NAME_SCOPES for entry in node.metadata_props):
            traced[node.name.rpartition("/")[0]].append(first_output(node))
    scopes: dict[str | None, list[str]] = defaultdict(list)
    for scope, outputs in traced.items():
        scopes[found.get(outputs[0])].append(scope)
    counts = Counter(called)
    clear = {path for path in scopes if path is not None and len(scopes[path]) <= counts[path]}
    open_calls = [path for path in called if path not in clear]
    fitting: dict[frozenset[str], list[str]] = defaultdict(list)
    for scope, outputs in traced.items():
        if found.get(outputs[0]) not in clear:
            parts = scope.split("/")[1:]
            fitting[frozenset(path for path in open_calls if _is_traced_as(parts, path))].append(scope)
            for output in outputs:
                found.pop(output, None)
    for paths, same in fitting.items():
        calls = [path for path in open_calls if path in paths]
        if len(calls) == len(same):
            found |= {output: path for scope, path in zip(same, calls, strict=True) for output in traced[scope]}
    return found


def _is_traced_as(parts: Sequence[str], path: str) -> bool:
    """Whether the parts of a traced scope are the names of the module at ``path`` and of modules around it."""
    pieces = path.split(".")
    names = []
    for end in range(1, len(pieces) + 1):
        begin = end - 1
        while begin and pieces[begin].isdigit():  # an element of a list is named with its list
            begin -= 1
        names.append(".".join(pieces[begin:end]))
    if not parts or names[-1] not in {parts[-1], REPEATED_CALL.sub("", parts[-1])}:
        return False
    remaining = iter(names)
    return all(any(name in {part, REPEATED_CALL.sub("", part)} for name in remaining) for part in parts)


def first_output(node: NodeProto) -> str:
    """The first output of a node that has a name, which no other node has."""
    return next((str(name) for name in node.output if name), "")


def module_of(node: NodeProto, modules: Collection[str]) -> str | None:
    """The path of the module that ``node`` was exported for, among the paths ``modules``; None if it is not known."""
    for entry in node.metadata_props:
        if entry.key == NAME_SCOPES:
            return _deepest([str(scope) for scope in ast.literal_eval(entry.value)], modules)
    if node.name.startswith("/"):
        return _resolve_scope(node.name.split("/")[1:-1], modules)
    return None


def _deepest(scopes: list[str], modules: Collection[str]) -> str | None:
    return next((scope for scope in reversed(scopes) if scope in modules), None)


def _resolve_scope(parts: list[str], modules: Collection[str]) -> str | None:
    """The path that the parts of a traced scope lead to, each part a child of the one before."""
    path = ""
    for part in parts:
        child = next((candidate for candidate in _children(path, part) if _is_path(candidate, modules)), None)
        if child is None:
            return None
        path = child
    return path if path in modules else None


def _children(path: str, part: str) -> list[str]:
    """The paths that ``part`` may mean below ``path``: a child's name, or the end of ``path`` followed by the name."""
    names = dict.fromkeys((part, REPEATED_CALL.sub("", part)))
    relative = [f"{path}.{name}" if path else name for name in names]
    pieces = path.split(".") if path else []
    ends = [".".join(pieces[start:]) for start in range(len(pieces))]
    return relative + [
        f"{path}{name.removeprefix(end)}" for name in names for end in ends if name.startswith(f"{end}.")
    ]


def _is_path(path: str, modules: Collection[str]) -> bool:
    return path in modules or any(module.startswith(f"{path}.") for module in modules)


def describe_node(node: NodeProto, values: Mapping[str, Array]) -> Node:
    """``node`` in words; ``values`` are the values of its inputs, as far as they are known."""
    return Node(
        name=node.name,
        op_type=node.op_type if node.domain in {"", "ai.onnx"} else f"{node.domain}::{node.op_type}",
        inputs=tuple(_input_text(name, values.get(name)) for name in node.input),
        outputs=tuple(node.output),
        attributes=tuple(f"{attribute.name}={_attribute_text(attribute)}" for attribute in node.attribute),
    )


def _input_text(name: str, value: Array | None) -> str:
    if not name or value is None:
        return name or "-"
    if value.size <= MAX_PRINTED_ELEMENTS and value.ndim <= 1:
        return f"{name}={_printed(value)}"
    return f"{name}: {value.dtype}{list(value.shape)}"


def _attribute_text(attribute: AttributeProto) -> str:
    value = helper.get_attribute_value(attribute)
    if attribute.type == AttributeProto.TENSOR:
        return "-" if value is None else _tensor_text(to_array(value))
    if attribute.type in {AttributeProto.GRAPH, AttributeProto.GRAPHS}:
        return "{...}"
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _tensor_text(array: Array) -> str:
    if array.size <= MAX_PRINTED_ELEMENTS:
        return _printed(array)
    return f"{array.dtype}{list(array.shape)}"


def _printed(array: Array) -> str:
    """The values in one line for each row."""
    return np.array2string(array, separator=", ", precision=6, max_line_width=sys.maxsize)
