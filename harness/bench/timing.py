"""All measurements of a run: what verified is timed, process by process, and the figures go into the results."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.bench.figures import told
from harness.bench.fresh import FreshProcesses
from harness.bench.settings import BenchSettings
from harness.bench.shapes import bench_cases
from harness.bench.task import Taken, Task
from harness.plan import Plan
from harness.result import Result
from harness.spec.case import Case
from harness.spec.target import Target
from harness.verify.settings import Settings

Take = Callable[[Task], Taken | str]
Answers = Mapping[tuple[str, str], Result]


@dataclass(frozen=True, slots=True)
class Stand:
    """A case at one set of shapes with the targets on which it verified there: what is timed together."""

    case: Case
    targets: tuple[Target, ...]


def time_all(
    plan: Plan,
    results: Sequence[Result],
    bench: BenchSettings,
    settings: Settings,
    scratch: Path,
    looking_on: Callable[[int], Callable[[], None]] = lambda _tasks: lambda: None,
) -> list[Result]:
    """``results`` of ``plan``'s own checks, those that passed with their latency.

    ``results`` hold the checks of :func:`harness.bench.shapes.with_shapes`. One that passed at its own shapes and
    fails at a ``bench`` shape becomes what it came to there, and is not timed: a wrong answer is never told how quick
    it was. ``looking_on`` is given the number of processes, and what it returns is called after each of them.
    """
    answers = {(result.case, result.target): result for result in results}
    rows = [_with_shapes(case, target, answers) for case, targets in plan.work for target in targets]
    passed = {(row.case, row.target) for row in rows if row.status == "passed"}
    stands = list(_stands(plan, passed))
    needs_torch = not all(stand.case.is_recorded for stand in stands)
    if not stands:
        return rows
    fresh = FreshProcesses(torch=needs_torch)
    taken = take_turns(stands, bench, settings, scratch, fresh.take, looking_on(len(stands) * bench.processes))
    return told(plan, rows, taken, bench)


def take_turns(
    stands: Sequence[Stand],
    bench: BenchSettings,
    settings: Settings,
    scratch: Path,
    take: Take,
    done: Callable[[], None],
) -> dict[str, list[Taken | str]]:
    """What each process of each stand measured, by the case's id.

    Every stand has its turn before any has its next, in an order drawn anew: the processes of one are spread over the
    whole run, so that they differ by all that the machine does meanwhile. A stand whose process did not finish has
    no further turn.
    """
    taken: dict[str, list[Taken | str]] = {stand.case.id: [] for stand in stands}
    order = random.Random(0)  # noqa: S311 - an order, no secret
    for turn in range(bench.processes):
        for stand in order.sample(list(stands), len(stands)):
            so_far = taken[stand.case.id]
            if not any(isinstance(one, str) for one in so_far):
                so_far.append(take(Task(stand.case, stand.targets, turn, bench, settings, scratch, Path.cwd())))
            done()
    return taken


def _with_shapes(case: Case, target: Target, answers: Answers) -> Result:
    """The check at its own shapes; where it passed there, the first of its ``bench`` shapes at which it did not."""
    own = answers[case.id, str(target)]
    if own.status != "passed":
        return own
    for other in bench_cases(case):
        there = answers[other.id, str(target)]
        if there.status != "passed":
            where = other.id.removeprefix(f"{case.id} ")
            return replace(there, case=case.id, message=f"{where}: {there.message}")
    return own


def _stands(plan: Plan, passed: set[tuple[str, str]]) -> Iterator[Stand]:
    for case, targets in plan.work:
        fitting = tuple(target for target in targets if (case.id, str(target)) in passed)
        if fitting and case.expect.raises is None:
            yield from (Stand(each, fitting) for each in (case, *bench_cases(case)))
