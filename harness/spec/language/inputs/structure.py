"""Nested inputs: how a spec writes them, and how they are put together from flat tensors.

``inputs: {x: {shape: [2]}, boxes: [{shape: [4]}, {shape: [4]}], cache: {k: {shape: [3]}}, mask: null}`` has the tensors
``x``, ``boxes.0``, ``boxes.1`` and ``cache.k``. Everything behind the spec knows tensors by these labels. Only
exporters and torch's sessions put them together again: ``forward(x, [boxes.0, boxes.1], {"k": cache.k}, None)``.

:func:`input_kind` and its neighbours tell in which of several ways a part of a spec is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.errors import Problem
from harness.spec.language.inputs.fills import FILLS
from harness.spec.quoting import format_value
from harness.spec.yaml.strict import invalid_value
from harness.spec.yaml.tree import Key, Node

Tree = Any
"""The label of a tensor, a tuple of trees for a list, an :class:`AsTuple`, a mapping of trees, or None."""
Structure = Mapping[str, Tree]
"""The arguments of ``forward`` by label, in order."""


class AsTuple(tuple[Tree, ...]):
    """Trees that are put together as a tuple; a spec has only lists."""

    __slots__ = ()


def flattened(case: Node, problems: list[Problem]) -> tuple[Node, Structure | None]:
    """``case`` with one entry in ``inputs`` for each tensor, and the structure; None if no input is nested or null.

    Labels that a spec may not write are added to ``problems``.
    """
    inputs = case.child("inputs")
    if inputs is None or not inputs.entries:
        return case, None
    for label in inputs.entries:
        if isinstance(label, str) and "." in label:
            message = f"inputs: {label!r} is not a label"
            problems.append(Problem(inputs.location([label], of_key=True), message, "nest the inputs: {a: {b: {...}}}"))
    entries: dict[Key, Node] = {}
    structure = {str(label): _flatten(str(label), node, entries) for label, node in inputs.entries.items()}
    if all(isinstance(tree, str) for tree in structure.values()):
        return case, None
    keys = {label: inputs.keys.get(label, entries[label].where) for label in entries}
    flat = Node(inputs.where, entries, keys)
    return Node(case.where, {**case.entries, "inputs": flat}, case.keys), structure


def _flatten(label: str, node: Node, entries: dict[Key, Node]) -> Tree:
    match input_kind(node.plain()):
        case "[null]":
            return None
        case "[list]":
            return tuple(_flatten(f"{label}.{index}", item, entries) for index, item in enumerate(node.items))
        case "[mapping]":
            return {str(key): _flatten(f"{label}.{key}", item, entries) for key, item in node.entries.items()}
    entries[label] = node
    return label


def flat_tree(label: str, value: Any, leaf: Callable[[str, Any], None]) -> Tree:
    """The tree of a value of Python's: lists, tuples and mappings of values. ``leaf`` is called with each other one."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {key: flat_tree(f"{label}.{key}", item, leaf) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = tuple(flat_tree(f"{label}.{index}", item, leaf) for index, item in enumerate(value))
        return AsTuple(items) if isinstance(value, tuple) else items
    leaf(label, value)
    return label


def without_null(structure: Structure) -> Structure:
    """The arguments that hold tensors: an argument that is null is a constant of the call."""
    return {label: tree for label, tree in structure.items() if tree is not None}


def null_labels(structure: Structure | None) -> frozenset[str]:
    """The labels of the arguments that are None."""
    return frozenset(label for label, tree in (structure or {}).items() if tree is None)


def arguments(structure: Structure, values: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments of ``forward`` by order, with ``values`` by label in place of the labels."""
    return tuple(_filled(tree, values) for tree in structure.values())


def in_order(structure: Structure) -> Sequence[str]:
    """The labels of the tensors, in order."""
    return [label for tree in structure.values() for label in _labels(tree)]


def to_json(structure: Structure) -> Any:
    """The structure as JSON data."""
    return {label: _tree_to_json(tree) for label, tree in structure.items()}


def from_json(value: Any) -> Structure:
    """The structure that :func:`to_json` wrote."""
    return {str(label): _tree_from_json(tree) for label, tree in value.items()}


def _filled(tree: Tree, values: Mapping[str, Any]) -> Any:
    if isinstance(tree, Mapping):
        return {key: _filled(item, values) for key, item in tree.items()}
    if isinstance(tree, AsTuple):
        return tuple(_filled(item, values) for item in tree)
    if isinstance(tree, tuple):
        return [_filled(item, values) for item in tree]
    return None if tree is None else values[tree]


def _labels(tree: Tree) -> list[str]:
    if isinstance(tree, Mapping):
        return [label for item in tree.values() for label in _labels(item)]
    if isinstance(tree, tuple):
        return [label for item in tree for label in _labels(item)]
    return [] if tree is None else [tree]


def _tree_to_json(tree: Tree) -> Any:
    if isinstance(tree, Mapping):
        return {"dict": {key: _tree_to_json(item) for key, item in tree.items()}}
    if isinstance(tree, tuple):
        return {"tuple" if isinstance(tree, AsTuple) else "list": [_tree_to_json(item) for item in tree]}
    return tree


def _tree_from_json(value: Any) -> Tree:
    match value:
        case {"dict": items}:
            return {key: _tree_from_json(item) for key, item in items.items()}
        case {"tuple": items}:
            return AsTuple(map(_tree_from_json, items))
        case {"list": items}:
            return tuple(map(_tree_from_json, items))
    return value


def is_one_shape(value: Any) -> bool:
    """True for a shape, False for a list of shapes."""
    return isinstance(value, list) and not any(isinstance(each, list) for each in value)


def input_kind(value: Any) -> str:
    """How an input is written: as a tensor, as a list or a mapping of inputs, or as null."""
    if value is None:
        return "[null]"
    if isinstance(value, list):
        return "[list]"
    return "[mapping]" if isinstance(value, dict) and _holds_inputs(value) else "[tensor]"


def _holds_inputs(value: dict[Any, Any]) -> bool:
    """True for a mapping of inputs by name. The keys of a tensor hold no mappings, except the parameters of a fill."""
    return bool(value) and all(_may_be_input(item) and not _is_fill(key, item) for key, item in value.items())


def _may_be_input(value: Any) -> bool:
    return value is None or isinstance(value, dict) or (isinstance(value, list) and any(map(_may_be_input, value)))


def _is_fill(key: Any, value: Any) -> bool:
    return key == "fill" and isinstance(value, dict) and not value.keys().isdisjoint(FILLS)


def wired_kind(value: Any) -> str:
    """What a step of a graph is: a layer or an operation."""
    is_operation = hasattr(value, "op") or (isinstance(value, dict) and "op" in value)
    return "[operation]" if is_operation else "[layer]"


def weights_kind(value: Any) -> str:
    """How weights are written: as a file, or as tensors by name."""
    if isinstance(value, dict):
        return "[file]" if isinstance(value.get("file"), str) else "[tensors]"
    is_file = isinstance(value, str) or hasattr(value, "file")
    return "[file]" if is_file else "[tensors]"


def one_model_file(value: Any) -> Any:
    """``value``, unless it is a mapping, as `files` takes one."""
    if isinstance(value, Mapping):
        remedy = f"write one path; files under test are written as `files: {format_value(value)}`"
        raise invalid_value("`file` is the model that is compared with, not a mapping", remedy)
    return value


def named_files(value: Any) -> Any:
    """``value``, unless it is a path without a name."""
    if isinstance(value, str):
        raise invalid_value(f"{format_value(value)} has no name", f"write `files: {{deployed: {format_value(value)}}}`")
    return value


def inputs_by_label(value: Any) -> Any:
    """``value``, unless it is the path of a data file."""
    if isinstance(value, str):
        remedy = f"write `inputs: {{x: {{file: {format_value(value)}}}}}`, or `samples: {format_value(value)}`"
        raise invalid_value(f"{format_value(value)} is no input by label", remedy)
    return value
