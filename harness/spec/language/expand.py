"""Axes that stay open in an artifact, and the further shapes that a case names.

A spec file's tree -> its cases: defaults under them, matrices spread out, everything resolved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from math import prod

from harness.errors import Location, Problem, SpecError, collecting
from harness.spec.language import expectations, models, schema, tensors
from harness.spec.language.case import Case, TensorSpec, seed_of
from harness.spec.language.matrix import MOST_POINTS, points, under_defaults, without
from harness.spec.language.schema import ONLY
from harness.spec.language.tensors import size_problems
from harness.spec.language.tolerances import CaseTolerance
from harness.spec.quoting import few_comparisons, listed_names, shown, suggestion
from harness.spec.yaml.strict import validated
from harness.spec.yaml.tree import Node

Ranks = Mapping[str, TensorSpec]


def by_label(shapes: Mapping[str, list[int]], inputs: Ranks) -> dict[str, tuple[int, ...]]:
    """Shapes by label; a bare one is the only input's."""
    return {label or next(iter(inputs)): tuple(shape) for label, shape in shapes.items()}


def open_axis_problems(node: Node, case: schema.Case, inputs: Ranks) -> Iterator[Problem]:
    """What is wrong with ``dynamic``, ``also`` and ``bench`` of the case at ``node``, given its inputs."""
    for label, axes in case.dynamic.items():
        if label not in inputs:
            right = suggestion(label, inputs, f"its inputs are {listed_names(inputs)}")
            yield Problem(node.place(["dynamic", label], of_key=True), f"dynamic: no input {label}", right)
            continue
        for axis in axes:
            if axis >= len(inputs[label].shape):
                wrong = f"dynamic: {label} has no axis {axis}"
                right = f"its axes are 0 to {len(inputs[label].shape) - 1}" if inputs[label].shape else "it has none"
                yield Problem(node.place(["dynamic", label, axis], of_key=True), wrong, right)
    if case.also and not case.dynamic:
        yield Problem(node.place(["also"], of_key=True), "also: no axis is open", "add `dynamic: {x: {0: N}}`")
    for key, listed in (("also", case.also), ("bench", case.bench)):
        for at, shapes in enumerate(listed):
            yield from _shape_problems(node, inputs, (key, at), shapes)
    if case.dynamic:
        for at, shapes in enumerate(case.also):
            yield from _axis_problems(node, case, inputs, at, shapes)


def _shape_problems(
    node: Node, inputs: Ranks, path: tuple[str, int], shapes: Mapping[str, list[int]]
) -> Iterator[Problem]:
    for label, shape in shapes.items():
        where = node.place([*path, label])
        if label == ONLY and len(inputs) != 1:
            yield Problem(where, f"{path[0]}: which of {len(inputs)} inputs?", "write {label: [sizes]}")
        elif label != ONLY and label not in inputs:
            right = suggestion(label, inputs, f"its inputs are {listed_names(inputs)}")
            yield Problem(node.place([*path, label], of_key=True), f"{path[0]}: no input {label}", right)
        else:
            yield from size_problems(where, shape)
            name = label or next(iter(inputs))
            if inputs[name].values is not None and tuple(shape) != inputs[name].shape:
                wrong = f"{path[0]}: {name} is given by values, which have one shape"
                yield Problem(where, wrong, "give it by `shape` and `fill`")


def _axis_problems(
    node: Node, case: schema.Case, inputs: Ranks, at: int, shapes: Mapping[str, list[int]]
) -> Iterator[Problem]:
    """Sizes that a graph with these open axes cannot take: a closed axis changed, one name with two sizes."""
    sizes: dict[str, int] = {}
    given = by_label(shapes, inputs)
    for label, spec in inputs.items():
        shape = given.get(label, spec.shape)
        where = node.place(["also", at, label])
        if len(shape) != len(spec.shape):
            yield Problem(
                where, f"also: {shown(shape)} has not the axes of {label}", f"{len(spec.shape)} sizes, as in inputs"
            )
            continue
        for axis, (size, first) in enumerate(zip(shape, spec.shape, strict=True)):
            name = case.dynamic.get(label, {}).get(axis)
            if name is None and size != first:
                wrong = f"also: axis {axis} of {label} is not open, and {size} is not {first}"
                yield Problem(where, wrong, f"open it under `dynamic:`, or keep {shown(first)}")
            elif name is not None and sizes.setdefault(name, size) != size:
                yield Problem(where, f"also: axis {name} is both {sizes[name]} and {size}", "one name, one size")


MOST_VALUES = 5_000_000
NOTHING = Node(Location(""), None)


@few_comparisons()
def expand(file: Node, stem: str, *, allow_import: bool = False, slips: Sequence[Problem] = ()) -> tuple[Case, ...]:
    """The file's cases, in its order; ``stem`` is the part of their ids before the case's name.

    ``slips`` are keys that the file repeats. Raises :class:`SpecError` with every problem of the file, theirs included.
    """
    problems = [*slips]
    with collecting(problems):
        validated(schema.SpecFile, file)
    listed = file.child("cases")
    if listed is None or any(problem.where < listed.where for problem in problems):
        # What the cases share is wrong: what they would be with it put right cannot be told.
        raise SpecError(problems)
    if problem := _too_much(file, listed):
        raise SpecError([*problems, problem])
    cases: list[Case] = []
    for node, following in zip_longest(listed.items, listed.items[1:]):
        if any(node.where < slip.where and (following is None or slip.where < following.where) for slip in slips):
            # Which of the two was meant cannot be told, nor what the case would be.
            continue
        with collecting(problems):
            if problems:
                _still_valid(file, node, problems)
            for point in points(under_defaults(file, node)):
                with collecting(problems):
                    cases.append(resolve(point.case, f"{stem}/{_name(node)}{point.suffix}", allow_import=allow_import))
    problems += _repeated(listed)
    if problems:
        raise SpecError(problems)
    return tuple(cases)


def _too_much(file: Node, cases: Node) -> Problem | None:
    """The case with which all cases, each written out with its defaults and for every matrix point, come to too much.

    A file of a few kilobytes could otherwise come to terabytes.
    """
    total, shared = 0, file.size() - cases.size()
    for case in cases.items:
        axes = [axis for axis in (case.child("matrix") or NOTHING).entries.values() if axis.items]
        points = min(prod(len(axis.items) for axis in axes), MOST_POINTS)
        own = without(case, {"matrix", "exclude"}).size() + sum(axis.size() // len(axis.items) for axis in axes)
        total += points * (shared + own)
        if total > MOST_VALUES:
            wrong = f"more than {MOST_VALUES} values, with defaults and matrices written out"
            return Problem(case.where, wrong, "generate large tensors with `fill`, or split the file")
    return None


def _still_valid(file: Node, case: Node, problems: list[Problem]) -> None:
    """Goes on with a case of a file with problems only where none of them is the case's own.

    Else, what can be said of its layers is said before :class:`SpecError` is raised.
    """
    try:
        validated(schema.Case, case)
    except SpecError:
        if case.entries and case.child("matrix") is None:
            problems += models.call_problems(under_defaults(file, case))
        raise


def resolve(node: Node, case_id: str, *, allow_import: bool = False) -> Case:
    """One case with nothing left open. Raises :class:`SpecError` with every problem that it has."""
    case = validated(schema.Case, without(node, {"matrix", "exclude"}))
    drawn_from = case_id if case.seed is None else f"seed {case.seed}"
    labels, may_raise = list(case.inputs), case.expect.raises is not None
    problems = [
        *models.call_problems(node),
        *_input_problems(node, case),
        *models.problems(node, case, labels, case.dtype, allow_import=allow_import, may_raise=may_raise),
        *expectations.problems(node, case, allow_import=allow_import),
    ]
    if problems:
        raise SpecError(problems)
    inputs = {label: tensors.tensor(label, spec, case.dtype, drawn_from) for label, spec in case.inputs.items()}
    if problems := list(open_axis_problems(node, case, inputs)):
        raise SpecError(problems)
    return Case(
        id=case_id,
        about=case.about,
        model=models.weighted(case, case.dtype, drawn_from),
        inputs=tuple(inputs.values()),
        where=node.where,
        mode=case.mode,
        dtype=case.dtype,
        expect=expectations.expectation(case, drawn_from),
        tolerance=case.tolerance or CaseTolerance(),
        seed=seed_of(case_id) if case.seed is None else case.seed,
        dynamic=case.dynamic,
        also=tuple(by_label(shapes, inputs) for shapes in case.also),
        bench=tuple(by_label(shapes, inputs) for shapes in case.bench),
    )


def _input_problems(node: Node, case: schema.Case) -> Iterator[Problem]:
    if not case.inputs:
        yield Problem(node.where, "the case has no inputs", "add `inputs: {x: {shape: [2, 3]}}`")
    held = node.child("inputs") or node
    for label, spec in case.inputs.items():
        yield from tensors.problems(held.child(label) or held, spec, case.dtype)


def _repeated(cases: Node) -> Iterator[Problem]:
    """Names that more than one case of the file has."""
    seen: dict[str, Location] = {}
    for node in cases.items:
        name, where = _name(node), node.place(["name"])
        if name in seen:
            wrong = f"name: {name} is taken by the case on line {seen[name].line}"
            yield Problem(where, wrong, "give each case a name of its own")
        else:
            seen[name] = where


def _name(case: Node) -> str:
    """The name of a case; a place of its own where it has none, so that no two are the same."""
    name = case.child("name")
    return str(case.where if name is None else name.value)
