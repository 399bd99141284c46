"""A spec file's tree -> its cases: defaults under them, matrices spread out, everything resolved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from math import prod

from harness.errors import Location, Problem, SpecError, collecting
from harness.spec import expectations, models, open_axes, schema, tensors
from harness.spec.case import Case, CaseTolerance
from harness.spec.matrix import MOST_POINTS, points
from harness.spec.merge import under_defaults, without
from harness.spec.nearest import few_comparisons
from harness.spec.node import Node
from harness.spec.seeds import seed_of
from harness.spec.strict import validated

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
    if problems := list(open_axes.problems(node, case, inputs)):
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
        also=tuple(open_axes.by_label(shapes, inputs) for shapes in case.also),
        bench=tuple(open_axes.by_label(shapes, inputs) for shapes in case.bench),
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
