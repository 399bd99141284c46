"""What ``harness bench`` was asked for.

A case at other shapes: it is exported for them, verified there, and only then timed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from harness.errors import UsageError
from harness.latency.sampling import Effort
from harness.plan import Plan
from harness.spec.bundle.reader import packed_case
from harness.spec.language.case import Case, Expectation, PackedModel
from harness.spec.quoting import compact

_MOST_ROUNDS = 100  # of one process; what a report holds of raw samples stays bearable


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """``budget_s`` is for one case at one set of shapes, over all ``processes``; ``rounds`` are of each process.

    Where ``rounds`` is None, there are as many as the budget holds. ``threads`` is what every runtime may use whose
    target does not say otherwise, None for the runtime's default; ``cpus`` are those that the processes are bound to,
    empty for all.
    """

    budget_s: float = 5.0
    processes: int = 20
    rounds: int | None = None
    threads: int | None = None
    cpus: tuple[int, ...] = ()

    @classmethod
    def from_report(cls, run: Mapping[str, Any]) -> BenchSettings | None:
        """What a report's ``run`` says of how it was timed; None where it was not timed thoroughly."""
        told = run.get("bench")
        if told is None:
            return None
        known = {one.name: told[one.name] for one in fields(cls) if one.name in told}
        return cls(**{**known, "cpus": tuple(told.get("cpus", ()))})

    def effort(self, calls: int) -> Effort:
        """What one process may spend on so many calls."""
        share = self.budget_s / self.processes
        warmup = 0.2 * share / calls
        if self.rounds is not None:
            return Effort(share, self.rounds, self.rounds, warmup, patience_s=float("inf"))
        return Effort(0.8 * share, least=5, most=_MOST_ROUNDS, warmup_s=warmup, patience_s=2 * share)


def parse_cpus(text: str) -> tuple[int, ...]:
    """``0,2-3`` as ``(0, 2, 3)``. Raises :class:`UsageError` for what is no such list, or no CPU of this process."""
    if not hasattr(os, "sched_getaffinity"):
        raise UsageError(f"--cpus {text}: this system binds no process to CPUs; leave the option out")
    chosen: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            raise UsageError(f"--cpus {text}: {part!r} is no CPU; write numbers or ranges, such as 0,2-3")
        chosen |= set(range(int(first), int(last or first) + 1))
    if strangers := sorted(chosen - os.sched_getaffinity(0)):
        here = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        raise UsageError(f"--cpus {text}: this process may not use CPU {strangers[0]}; it may use {here}")
    return tuple(sorted(chosen))


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
