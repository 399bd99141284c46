"""Defaults and matrices: the cases of a file before they are validated one by one.

Defaults are merged under each case. Arguments, weights, inputs and expectations are merged key by key, and each tensor
again key by key; everything else is replaced. A tensor given by ``values`` drops the ``shape``, ``fill`` and ``file``
of the defaults, and the same holds for each other way to give it. A case that names its own model drops the ``args``,
``forward`` and ``weights`` that the defaults give to the file's model.

A matrix is expanded into every combination of its values, less the excluded ones, each with its part of the case id.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress, product
from math import prod

import numpy as np

from harness.errors import Location, Problem, SpecError
from harness.spec.language.schema import Case
from harness.spec.quoting import flow_yaml, format_value, id_label, join_names, suggestion
from harness.spec.yaml.tree import Key, Node

MODEL_KEYS = frozenset({"layer", "sequential", "graph", "returns", "factory", "file"})
MODEL_ARGUMENT_KEYS = frozenset({"args", "forward", "weights"})
MERGED_BY_KEY = frozenset({"args", "forward", "expect"})
MERGED_BY_TENSOR = frozenset({"inputs", "weights"})
WAYS_TO_GIVE_A_TENSOR = (frozenset({"values"}), frozenset({"shape", "fill"}), frozenset({"file", "key"}))

MAX_POINTS = 100_000
MAX_AXES = 64
MAX_KEY_LENGTH = 1_000
INDEX = re.compile(r"[0-9]{1,9}")
NOT_IN_A_MATRIX = frozenset({"name", "matrix", "exclude"})


def with_defaults(file: Node, case: Node) -> Node:
    """``case`` with the file's model and defaults merged under it, at the location of the case."""
    file_model = select_keys(file, MODEL_KEYS)
    defaults = file.child("defaults") or Node(case.where, {})
    if MODEL_KEYS & set(case.entries):
        file_model = select_keys(file, ())
        if MODEL_KEYS & set(file.entries):
            defaults = without_keys(defaults, MODEL_ARGUMENT_KEYS)
    return merge(merge(file_model, defaults), case)


def merge(under: Node, over: Node) -> Node:
    """The keys of both mappings; ``over`` takes precedence, or is merged by the rules of this module."""
    merged = dict(under.entries)
    for key, node in over.entries.items():
        below = merged.get(key)
        if below is None or not below.entries:
            merged[key] = node
        elif key in MERGED_BY_KEY:
            merged[key] = _merge_keys(below, node)
        elif key in MERGED_BY_TENSOR and not _is_file(below) and not _is_file(node):
            merged[key] = _merge_tensors(below, node)
        else:
            merged[key] = node
    return Node(over.where, merged, {**under.keys, **over.keys})


def _merge_keys(under: Node, over: Node) -> Node:
    return Node(over.where, {**under.entries, **over.entries}, {**under.keys, **over.keys})


def _merge_tensors(under: Node, over: Node) -> Node:
    merged = dict(under.entries)
    for name, tensor in over.entries.items():
        below = merged.get(name)
        kept = None if below is None else without_keys(below, _replaced_keys(set(tensor.entries)))
        merged[name] = tensor if kept is None or not tensor.entries else _merge_keys(kept, tensor)
    return Node(over.where, merged, {**under.keys, **over.keys})


def _is_file(weights: Node) -> bool:
    """True for ``weights: {file: net.pt}``, which has no tensors to merge."""
    file = weights.entries.get("file")
    return file is not None and isinstance(file.value, str)


def _replaced_keys(keys: Collection[Key]) -> frozenset[str]:
    """The keys of a tensor that ``keys`` replace: values, a shape with its fill, and a file replace each other."""
    present = {way for way in WAYS_TO_GIVE_A_TENSOR if way & set(keys)}
    return frozenset().union(*(way for way in WAYS_TO_GIVE_A_TENSOR if way not in present)) if present else frozenset()


def select_keys(node: Node, keys: Collection[Key]) -> Node:
    """The mapping with only these keys."""
    return without_keys(node, [key for key in node.entries if key not in keys])


def without_keys(node: Node, keys: Collection[Key]) -> Node:
    """The mapping without these keys."""
    kept = {key: child for key, child in node.entries.items() if key not in keys}
    return Node(node.where, kept, {key: location for key, location in node.keys.items() if key in kept})


def set_in_case(case: Node, path: Sequence[Key], value: Node, where: Location) -> Node:
    """As :func:`set_value`; a tensor also drops the keys that the new one replaces."""
    if len(path) == 3 and path[0] in MERGED_BY_TENSOR:
        tensor = (case.child(path[0]) or case).child(path[1])
        if tensor is not None:
            kept = without_keys(tensor, _replaced_keys({path[2]}))
            return set_value(case, path[:2], set_value(kept, path[2:], value, where), kept.where)
    return set_value(case, path, value, where)


def set_value(node: Node, path: Sequence[Key], value: Node, where: Location) -> Node:
    """``node`` with ``value`` at ``path``; missing mappings on the way are created at the location ``where``.

    Raises ``LookupError`` if the path leads through a value that has no such part.
    """
    if not path:
        return value
    part, rest = path[0], path[1:]
    if isinstance(node.value, tuple):
        if not (isinstance(part, int) and part < len(node.value)):
            raise LookupError(part)
        changed = set_value(node.value[part], rest, value, where)
        return Node(node.where, (*node.value[:part], changed, *node.value[part + 1 :]))
    if node.value is not None and not node.entries and node.value != {}:
        raise LookupError(part)
    child = node.entries.get(part) or Node(where, {})
    entries = {**node.entries, part: set_value(child, rest, value, where)}
    return Node(node.where, entries, {**node.keys, part: where})


@dataclass(frozen=True, slots=True)
class Point:
    """One combination: its part of the id, and the case with its values set."""

    suffix: str
    case: Node


@dataclass(frozen=True)
class Axis:
    """One key of a matrix: the dotted path it sets, and its values."""

    name: str
    where: Location
    values: tuple[Node, ...]

    @cached_property
    def path(self) -> tuple[Key, ...]:
        """The dotted path as keys; a part of digits is an index, or a key that is a number."""
        return tuple(int(part) if INDEX.fullmatch(part) else part for part in self.name.split("."))

    @cached_property
    def index_by_text(self) -> dict[str, int]:
        """The index of each value, by its text in YAML."""
        return {flow_yaml(value.plain()): index for index, value in enumerate(self.values)}

    @cached_property
    def listed_values(self) -> str:
        """The values, as many as fit into a message."""
        return join_names(format_value(each.plain()) for each in self.values)


def points(case: Node) -> Iterator[Point]:
    """Every combination of the case's ``matrix`` values; the case itself if it has no matrix.

    ``suffix`` is ``[k=v,...]`` in the matrix's order, with values as :func:`harness.spec.quoting.id_label` writes them.
    Raises :class:`SpecError` for a matrix or an ``exclude`` with a mistake.
    """
    matrix = case.child("matrix")
    if matrix is None:
        if exclude := case.child("exclude"):
            raise SpecError([Problem(exclude.where, "exclude without a matrix", "write a `matrix:` beside it")])
        yield Point("", case)
        return
    axes = [Axis(str(name), matrix.keys[name], node.items) for name, node in matrix.entries.items()]
    _check_matrix(axes, case, matrix.where)
    combinations = product(*(axis.values for axis in axes))
    kept = list(compress(combinations, _is_kept(case, axes))) if case.child("exclude") else list(combinations)
    if not kept:
        message = "exclude removes every combination of the matrix"
        raise SpecError([Problem(matrix.where, message, "exclude fewer combinations")])
    for values in kept:
        yield _point(case, axes, values)


def _point(case: Node, axes: Sequence[Axis], values: Sequence[Node]) -> Point:
    for axis, value in zip(axes, values, strict=True):
        try:
            case = set_in_case(case, axis.path, value, axis.where)
        except LookupError as error:
            message = f"{axis.name}: the case has no {error.args[0]} there"
            raise SpecError([Problem(axis.where, message, "correct the dotted path")]) from None
    parts = (f"{axis.name}={id_label(value.plain())}" for axis, value in zip(axes, values, strict=True))
    return Point(f"[{','.join(parts)}]", case)


def _check_matrix(axes: Sequence[Axis], case: Node, where: Location) -> None:
    if len(axes) > MAX_AXES:
        raise SpecError([Problem(where, f"{len(axes)} keys in one matrix", f"at most {MAX_AXES}")])
    if (length := sum(len(axis.name) for axis in axes)) > MAX_KEY_LENGTH:
        remedy = f"at most {MAX_KEY_LENGTH}: they become part of each case's id"
        raise SpecError([Problem(where, f"keys of {length} characters in one matrix", remedy)])
    problems = [problem for axis in axes for problem in _axis_problems(axis, axes, case)]
    count = prod(len(axis.values) for axis in axes)
    if count > MAX_POINTS:
        problems.append(Problem(where, f"{count} combinations", f"at most {MAX_POINTS}; combine fewer values"))
    if problems:
        raise SpecError(problems)


def _axis_problems(axis: Axis, axes: Sequence[Axis], case: Node) -> Iterator[Problem]:
    case_keys = [field.alias or name for name, field in Case.model_fields.items() if name not in NOT_IN_A_MATRIX]
    first = str(axis.path[0])
    if first in NOT_IN_A_MATRIX:
        yield Problem(axis.where, f"{axis.name}: a matrix cannot set it", "set it in the case itself")
    elif first not in case_keys:
        remedy = suggestion(first, case_keys, "correct the path")
        yield Problem(axis.where, f"{axis.name}: a case has no key {first}", remedy)
    inputs = case.child("inputs")
    labels = inputs.entries if inputs is not None else {}
    if first == "inputs" and labels and len(axis.path) > 1 and axis.path[1] not in labels:
        remedy = suggestion(str(axis.path[1]), map(str, labels), f"its inputs are {join_names(map(str, labels))}")
        yield Problem(axis.where, f"{axis.name}: the case has no input {axis.path[1]}", remedy)
    for other in axes:
        if other is not axis and other.path == axis.path[: len(other.path)]:
            yield Problem(axis.where, f"{axis.name}: {other.name} sets it too", "set each key once")
    texts: set[str] = set()
    for value in axis.values:
        text = flow_yaml(value.plain())
        if text in texts:
            yield Problem(value.where, f"{axis.name}: {text} twice", "list each value once")
        texts.add(text)


def _is_kept(case: Node, axes: Sequence[Axis]) -> Iterator[bool]:
    """For each combination, in the order of ``product``, whether no entry of ``exclude`` matches it."""
    exclude = case.child("exclude") or Node(case.where, ())
    if problems := list(_exclude_problems(exclude, axes)):
        raise SpecError(problems)
    # NumPy limits the number of axes. Without axes of one value, which make no difference here, at most 16 remain.
    varied = [axis for axis in axes if len(axis.values) > 1]
    kept = np.ones([len(axis.values) for axis in varied], bool)
    for entry in exclude.items:
        texts = {name: flow_yaml(value.plain()) for name, value in entry.entries.items()}
        kept[tuple(axis.index_by_text[texts[axis.name]] if axis.name in texts else slice(None) for axis in varied)] = (
            False
        )
    yield from kept.ravel().tolist()


def _exclude_problems(exclude: Node, axes: Sequence[Axis]) -> Iterator[Problem]:
    """Entries that name a key that the matrix does not set, or a value that it does not list."""
    by_name = {axis.name: axis for axis in axes}
    for entry in exclude.items:
        for name, value in entry.entries.items():
            axis = by_name.get(str(name)) if isinstance(name, str) else None
            if axis is None:
                remedy = suggestion(str(name), by_name, f"it sets {join_names(by_name)}")
                yield Problem(entry.keys[name], f"{name}: the matrix does not set it", remedy)
            elif flow_yaml(value.plain()) not in axis.index_by_text:
                message = f"{name}: {format_value(value.plain())} is not one of its values, so nothing is excluded"
                yield Problem(value.where, message, f"write one of {axis.listed_values}")
