"""Thorough latency: verified checks are timed in fresh processes, at the case's own shapes and at its ``bench`` shapes.

This file has the settings, and the cases at their shapes. :func:`with_shapes` returns what has to be verified first;
:func:`harness.engine.bench.timing.time_all` adds the latency to the results. A case at other shapes is exported for
them, verified there, and only then timed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from harness.errors import UsageError
from harness.latency.sampling import SamplingLimits
from harness.plan import Plan
from harness.spec.bundle.entries import PackedModel
from harness.spec.bundle.reader import packed_case
from harness.spec.language.case import Case, Expectation
from harness.spec.quoting import flow_yaml

_MAX_ROUNDS = 100  # of one process; it bounds the raw samples in a report


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """How much to measure: ``budget_s`` per case and set of shapes, over all ``processes``; ``rounds`` per process.

    Without ``rounds``, there are as many as the budget holds. ``threads`` go to every runtime whose target does not set
    its own, None for the runtime's default. The processes are bound to ``cpus``; empty for all. With ``layers``, one
    more process measures how long each node and each layer takes.
    """

    budget_s: float = 5.0
    processes: int = 20
    rounds: int | None = None
    threads: int | None = None
    cpus: tuple[int, ...] = ()
    layers: bool = False

    @classmethod
    def from_report(cls, run: Mapping[str, Any]) -> BenchSettings | None:
        """Read the settings from a report's ``run``; None where it was not timed thoroughly."""
        recorded = run.get("bench")
        if recorded is None:
            return None
        values = {field.name: recorded[field.name] for field in fields(cls) if field.name in recorded}
        return cls(**{**values, "cpus": tuple(recorded.get("cpus", ()))})

    def sampling_limits(self, calls: int) -> SamplingLimits:
        """The limits of one process that samples so many calls."""
        share = self.budget_s / self.processes
        warmup = 0.2 * share / calls
        if self.rounds is not None:
            return SamplingLimits(share, self.rounds, self.rounds, warmup, max_s=float("inf"))
        return SamplingLimits(0.8 * share, min_rounds=5, max_rounds=_MAX_ROUNDS, warmup_s=warmup, max_s=2 * share)


def parse_cpus(text: str) -> tuple[int, ...]:
    """Parse ``0,2-3`` as ``(0, 2, 3)``. Raises :class:`UsageError` for anything else, and for a CPU not available."""
    if not hasattr(os, "sched_getaffinity"):
        raise UsageError(f"--cpus {text}: this system binds no process to CPUs; leave the option out")
    cpus: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            raise UsageError(f"--cpus {text}: {part!r} is no CPU; write numbers or ranges, such as 0,2-3")
        cpus |= set(range(int(first), int(last or first) + 1))
    available = os.sched_getaffinity(0)
    if unavailable := sorted(cpus - available):
        allowed = ", ".join(map(str, sorted(available)))
        raise UsageError(f"--cpus {text}: this process may not use CPU {unavailable[0]}; it may use {allowed}")
    return tuple(sorted(cpus))


def shapes_of(case: Case) -> str:
    """The shapes of the case's inputs in one line: ``x=[1,3,512,512]``."""
    return " ".join(f"{spec.label}={flow_yaml(spec.shape)}" for spec in case.inputs)


def case_at_shapes(case: Case, shapes: Mapping[str, tuple[int, ...]]) -> Case:
    """``case`` with inputs of these shapes, by label, under its own id.

    It keeps only those expectations that hold at any shape.
    """
    inputs = tuple(replace(spec, shape=tuple(shapes.get(spec.label, spec.shape))) for spec in case.inputs)
    expect = case.expect
    any_shape = Expectation(
        range=expect.range, formula=expect.formula, equals=expect.equals, differs_from=expect.differs_from
    )
    resized = replace(case, inputs=inputs, expect=any_shape, also=(), bench=(), bench_of=case.id, draws=1)
    return replace(resized, id=f"{case.id} at {shapes_of(resized)}")


def bench_cases(case: Case) -> tuple[Case, ...]:
    """``case`` at each of its ``bench`` shapes, without its own shapes and without repetitions.

    A packed case has the shapes that it was packed at.
    """
    packed = case.model.model
    if isinstance(packed, PackedModel):
        return tuple(packed_case(packed.path, packed.seal, entry) for entry in packed.entry.bench)
    by_shapes = {shapes_of(resized): resized for resized in (case_at_shapes(case, shapes) for shapes in case.bench)}
    return tuple(resized for shapes, resized in by_shapes.items() if shapes != shapes_of(case))


def with_shapes(plan: Plan) -> Plan:
    """``plan`` with every case at its ``bench`` shapes too: all that must verify before it is timed."""
    return Plan(tuple((each, targets) for case, targets in plan.jobs for each in (case, *bench_cases(case))))
