"""What a file says once, under every case of it.

Arguments, weights, inputs and expectations are merged key by key; each tensor again key by key.
Everything else is replaced. A tensor given by ``values`` sheds the ``shape`` and ``fill`` that lie
under it, and the other way round. A case that names its own model sheds the ``args``, ``forward``
and ``weights`` that the defaults give to the file's model.

A matrix of values -> every combination, less what is excluded, each with its part of the id.
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
from harness.spec.quoting import compact, label, listed_names, shown, suggestion
from harness.spec.yaml.tree import Key, Node

MODEL_KEYS = frozenset({"layer", "sequential", "graph", "returns", "factory"})
OF_THE_MODEL = frozenset({"args", "forward", "weights"})
BY_KEY = frozenset({"args", "forward", "expect"})
BY_TENSOR = frozenset({"inputs", "weights"})
LITERAL, GENERATED = frozenset({"values"}), frozenset({"shape", "fill"})


def under_defaults(file: Node, case: Node) -> Node:
    """``case`` with the file's model and defaults under it; it stands where the case stands."""
    own_model = bool(MODEL_KEYS & set(case.entries))
    file_model = only(file, MODEL_KEYS)
    defaults = file.child("defaults") or Node(case.where, {})
    if own_model:
        file_model = only(file, ())
        if MODEL_KEYS & set(file.entries):
            defaults = without(defaults, OF_THE_MODEL)
    return union(union(file_model, defaults), case)


def union(under: Node, over: Node) -> Node:
    """The keys of both mappings; ``over`` wins, or is merged by the rules above."""
    merged = dict(under.entries)
    for key, node in over.entries.items():
        below = merged.get(key)
        if below is None or not below.entries:
            merged[key] = node
        elif key in BY_KEY:
            merged[key] = _joined(below, node)
        elif key in BY_TENSOR:
            merged[key] = _tensors(below, node)
        else:
            merged[key] = node
    return Node(over.where, merged, {**under.keys, **over.keys})


def put(node: Node, path: Sequence[Key], value: Node, where: Location) -> Node:
    """``node`` with ``value`` at ``path``; what is missing on the way is made and stands at ``where``.

    Raises ``LookupError`` where the path leads through something that has no such part.
    """
    if not path:
        return value
    part, rest = path[0], path[1:]
    if isinstance(node.value, tuple):
        if not (isinstance(part, int) and part < len(node.value)):
            raise LookupError(part)
        changed = put(node.value[part], rest, value, where)
        return Node(node.where, (*node.value[:part], changed, *node.value[part + 1 :]))
    if node.value is not None and not node.entries and node.value != {}:
        raise LookupError(part)
    child = node.entries.get(part) or Node(where, {})
    entries = {**node.entries, part: put(child, rest, value, where)}
    return Node(node.where, entries, {**node.keys, part: where})


def overlaid(node: Node, path: Sequence[Key], value: Node, where: Location) -> Node:
    """:func:`put`, by which a tensor sheds the rivals of what it is given."""
    if len(path) == 3 and path[0] in BY_TENSOR:
        tensor = (node.child(path[0]) or node).child(path[1])
        if tensor is not None:
            kept = without(tensor, _rivals({path[2]}))
            return put(node, path[:2], put(kept, path[2:], value, where), kept.where)
    return put(node, path, value, where)


def only(node: Node, keys: Collection[Key]) -> Node:
    """The mapping with these keys of it."""
    return without(node, [key for key in node.entries if key not in keys])


def without(node: Node, keys: Collection[Key]) -> Node:
    """The mapping less these keys."""
    kept = {key: child for key, child in node.entries.items() if key not in keys}
    return Node(node.where, kept, {key: place for key, place in node.keys.items() if key in kept})


def _joined(under: Node, over: Node) -> Node:
    return Node(over.where, {**under.entries, **over.entries}, {**under.keys, **over.keys})


def _tensors(under: Node, over: Node) -> Node:
    merged = dict(under.entries)
    for name, tensor in over.entries.items():
        below = merged.get(name)
        merged[name] = tensor if below is None else _joined(without(below, _rivals(set(tensor.entries))), tensor)
    return Node(over.where, merged, {**under.keys, **over.keys})


def _rivals(keys: Collection[Key]) -> frozenset[str]:
    """What cannot stand beside ``keys`` when it lies under them."""
    given = set(keys)
    return (GENERATED if given & LITERAL else frozenset()) | (LITERAL if given & GENERATED else frozenset())


MOST_POINTS = 100_000
MOST_AXES = 64
LONGEST_NAMES = 1_000
INDEX = re.compile(r"[0-9]{1,9}")
NOT_IN_A_MATRIX = frozenset({"name", "matrix", "exclude"})


@dataclass(frozen=True, slots=True)
class Point:
    """One combination: what it adds to the id, and the case with its values set."""

    suffix: str
    case: Node


@dataclass(frozen=True)
class Axis:
    """One line of a matrix: what is set, and the values that it takes."""

    name: str
    where: Location
    values: tuple[Node, ...]

    @cached_property
    def path(self) -> tuple[Key, ...]:
        """The dotted path; a part of digits is an index, or a key that is a number."""
        return tuple(int(part) if INDEX.fullmatch(part) else part for part in self.name.split("."))

    @cached_property
    def looks(self) -> dict[str, int]:
        """What each value looks like, with its place among them."""
        return {compact(value.plain()): at for at, value in enumerate(self.values)}

    @cached_property
    def choices(self) -> str:
        """The values, as many of them as fit into a message."""
        return listed_names(shown(each.plain()) for each in self.values)


def points(case: Node) -> Iterator[Point]:
    """Every combination that the case's ``matrix`` names; the case itself where it has none.

    ``suffix`` is ``[k=v,...]`` in the matrix's order, values as :func:`harness.spec.quoting.label` writes them.
    Raises :class:`SpecError` for a matrix or an ``exclude`` that cannot be meant as it is written.
    """
    matrix = case.child("matrix")
    if matrix is None:
        if alone := case.child("exclude"):
            raise SpecError([Problem(alone.where, "exclude without a matrix", "write a `matrix:` beside it")])
        yield Point("", case)
        return
    axes = [Axis(str(name), matrix.keys[name], node.items) for name, node in matrix.entries.items()]
    _check(axes, case, matrix.where)
    combinations = product(*(axis.values for axis in axes))
    left = list(compress(combinations, _is_left(case, axes))) if case.child("exclude") else list(combinations)
    if not left:
        raise SpecError([Problem(matrix.where, "exclude leaves nothing of the matrix", "exclude less")])
    for values in left:
        yield _point(case, axes, values)


def _point(case: Node, axes: Sequence[Axis], values: Sequence[Node]) -> Point:
    for axis, value in zip(axes, values, strict=True):
        try:
            case = overlaid(case, axis.path, value, axis.where)
        except LookupError as error:
            wrong = f"{axis.name}: the case has no {error.args[0]} there"
            raise SpecError([Problem(axis.where, wrong, "correct the dotted path")]) from None
    named = (f"{axis.name}={label(value.plain())}" for axis, value in zip(axes, values, strict=True))
    return Point(f"[{','.join(named)}]", case)


def _check(axes: Sequence[Axis], case: Node, where: Location) -> None:
    if len(axes) > MOST_AXES:
        raise SpecError([Problem(where, f"{len(axes)} keys in one matrix", f"at most {MOST_AXES}")])
    if (longest := sum(len(axis.name) for axis in axes)) > LONGEST_NAMES:
        right = f"at most {LONGEST_NAMES}: they become part of each case's id"
        raise SpecError([Problem(where, f"keys of {longest} characters in one matrix", right)])
    problems = [problem for axis in axes for problem in _axis_problems(axis, axes, case)]
    count = prod(len(axis.values) for axis in axes)
    if count > MOST_POINTS:
        problems.append(Problem(where, f"{count} combinations", f"at most {MOST_POINTS}; sweep fewer values together"))
    if problems:
        raise SpecError(problems)


def _axis_problems(axis: Axis, axes: Sequence[Axis], case: Node) -> Iterator[Problem]:
    known = [field.alias or name for name, field in Case.model_fields.items() if name not in NOT_IN_A_MATRIX]
    first = str(axis.path[0])
    if first in NOT_IN_A_MATRIX:
        yield Problem(axis.where, f"{axis.name}: a matrix cannot set it", "it is one case's own")
    elif first not in known:
        yield Problem(axis.where, f"{axis.name}: a case has no {first}", suggestion(first, known, "correct the path"))
    inputs = case.child("inputs")
    labels = inputs.entries if inputs is not None else {}
    if first == "inputs" and labels and len(axis.path) > 1 and axis.path[1] not in labels:
        near = suggestion(str(axis.path[1]), map(str, labels), f"its inputs are {listed_names(map(str, labels))}")
        yield Problem(axis.where, f"{axis.name}: the case has no input {axis.path[1]}", near)
    for other in axes:
        if other is not axis and other.path == axis.path[: len(other.path)]:
            yield Problem(axis.where, f"{axis.name}: {other.name} sets it too", "set each thing once")
    seen: set[str] = set()
    for value in axis.values:
        shown = compact(value.plain())
        if shown in seen:
            yield Problem(value.where, f"{axis.name}: {shown} twice", "name each value once")
        seen.add(shown)


def _is_left(case: Node, axes: Sequence[Axis]) -> Iterator[bool]:
    """Of each combination, in the order of ``product``, whether no entry of ``exclude`` speaks of it."""
    exclude = case.child("exclude") or Node(case.where, ())
    if problems := list(_exclusion_problems(exclude, axes)):
        raise SpecError(problems)
    # An axis with one value says nothing, and an array has few axes: without them there are 16 at most.
    swept = [axis for axis in axes if len(axis.values) > 1]
    left = np.ones([len(axis.values) for axis in swept], bool)
    for entry in exclude.items:
        looks = {name: compact(value.plain()) for name, value in entry.entries.items()}
        left[tuple(axis.looks[looks[axis.name]] if axis.name in looks else slice(None) for axis in swept)] = False
    yield from left.ravel().tolist()


def _exclusion_problems(exclude: Node, axes: Sequence[Axis]) -> Iterator[Problem]:
    """Entries that name what the matrix does not set, or a value that it does not take."""
    by_name = {axis.name: axis for axis in axes}
    for entry in exclude.items:
        for name, value in entry.entries.items():
            axis = by_name.get(str(name)) if isinstance(name, str) else None
            if axis is None:
                right = suggestion(str(name), by_name, f"it sets {listed_names(by_name)}")
                yield Problem(entry.keys[name], f"{name}: the matrix does not set it", right)
            elif compact(value.plain()) not in axis.looks:
                wrong = f"{name}: {shown(value.plain())} is none of its values, so nothing is excluded"
                yield Problem(value.where, wrong, f"one of {axis.choices}")
