"""A case at other shapes: it is exported for them, verified there, and only then timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.plan import Plan
from harness.spec.bundle import packed_case
from harness.spec.case import Case, Expectation, PackedModel
from harness.spec.compact import compact


def shapes_of(case: Case) -> str:
    """The shapes of the case's inputs in one line: ``x=[1,3,512,512]``."""
    return " ".join(f"{spec.label}={compact(spec.shape)}" for spec in case.inputs)


def at(case: Case, shapes: Mapping[str, tuple[int, ...]]) -> Case:
    """``case`` with inputs of these shapes, by label, under an id of its own.

    Of its expectations those are left that hold at any shape.
    """
    inputs = tuple(replace(spec, shape=tuple(shapes.get(spec.label, spec.shape))) for spec in case.inputs)
    asked = case.expect
    any_shape = Expectation(
        range=asked.range, formula=asked.formula, equals=asked.equals, differs_from=asked.differs_from
    )
    moved = replace(case, inputs=inputs, expect=any_shape, also=(), bench=(), bench_of=case.id)
    return replace(moved, id=f"{case.id} at {shapes_of(moved)}")


def bench_cases(case: Case) -> tuple[Case, ...]:
    """``case`` at each of its ``bench`` shapes, without those that it has anyway and those named twice.

    A packed case has those at which it was packed.
    """
    packed = case.model.model
    if isinstance(packed, PackedModel):
        return tuple(packed_case(packed.folder, packed.seal, entry) for entry in packed.entry.bench)
    moved = {shapes_of(other): other for other in (at(case, shapes) for shapes in case.bench)}
    return tuple(other for shapes, other in moved.items() if shapes != shapes_of(case))


def with_shapes(plan: Plan) -> Plan:
    """``plan`` with every case at its ``bench`` shapes too: what must verify before it is timed."""
    return Plan(tuple((each, targets) for case, targets in plan.work for each in (case, *bench_cases(case))))
