"""A matrix of values -> every combination, less what is excluded, each with its part of the id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from harness.errors import Location, Problem, SpecError
from harness.spec.compact import compact, label
from harness.spec.merge import overlaid
from harness.spec.nearest import suggestion
from harness.spec.node import Key, Node
from harness.spec.schema import Case

MOST_POINTS = 100_000
NOT_IN_A_MATRIX = frozenset({"name", "matrix", "exclude"})


@dataclass(frozen=True, slots=True)
class Point:
    """One combination: what it adds to the id, and the case with its values set."""

    suffix: str
    case: Node


@dataclass(frozen=True, slots=True)
class Axis:
    """One line of a matrix: what is set, and the values that it takes."""

    name: str
    where: Location
    values: tuple[Node, ...]

    @property
    def path(self) -> tuple[Key, ...]:
        """The dotted path; a part of digits is an index, or a key that is a number."""
        return tuple(int(part) if part.isdecimal() else part for part in self.name.split("."))


def points(case: Node) -> Iterator[Point]:
    """Every combination that the case's ``matrix`` names; the case itself where it has none.

    ``suffix`` is ``[k=v,...]`` in the matrix's order, values as :func:`harness.spec.compact.label` writes them.
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
    excluded = _exclusions(case, axes)
    left = [each for each in product(*(axis.values for axis in axes)) if not _is_excluded(axes, each, excluded)]
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
        near = suggestion(str(axis.path[1]), map(str, labels), f"its inputs are {', '.join(map(str, labels))}")
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


def _exclusions(case: Node, axes: Sequence[Axis]) -> list[Mapping[str, str]]:
    """The entries of ``exclude``, each as what its values look like."""
    found: list[Mapping[str, str]] = []
    problems = []
    by_name = {axis.name: {compact(value.plain()) for value in axis.values} for axis in axes}
    for entry in (case.child("exclude") or Node(case.where, ())).items:
        for name, value in entry.entries.items():
            if name not in by_name:
                right = suggestion(str(name), by_name, f"it sets {', '.join(by_name)}")
                problems.append(Problem(entry.keys[name], f"{name}: the matrix does not set it", right))
            elif compact(value.plain()) not in by_name[str(name)]:
                wrong = f"{name}: {compact(value.plain())} is none of its values, so nothing is excluded"
                problems.append(Problem(value.where, wrong, f"one of {', '.join(sorted(by_name[str(name)]))}"))
        found.append({str(name): compact(value.plain()) for name, value in entry.entries.items()})
    if problems:
        raise SpecError(problems)
    return found


def _is_excluded(axes: Sequence[Axis], values: Sequence[Node], exclusions: Sequence[Mapping[str, str]]) -> bool:
    if not exclusions:
        return False
    at: dict[str, Any] = {axis.name: compact(value.plain()) for axis, value in zip(axes, values, strict=True)}
    return any(all(at[name] == value for name, value in entry.items()) for entry in exclusions)
