"""Fresh processes, one after another: nothing of one measurement is left when the next begins.

From what the processes measured to the ``latency`` of each result.

All measurements of a run: what verified is timed, process by process, and the figures go into the results.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from multiprocessing.connection import Connection, wait
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from harness.bench.process import TRANSFER, Taken, Task, series
from harness.bench.settings import BenchSettings, bench_cases, shapes_of
from harness.check.settings import Settings, seconds_for
from harness.check.stages import message_of
from harness.engine.processes.exits import end_those_of, how
from harness.engine.processes.fork_server import warm_up
from harness.engine.processes.limits import TIMED_OUT
from harness.latency.figure import latency
from harness.latency.statistics import summarise
from harness.plan import Plan
from harness.result import Result
from harness.spec.language.case import Case
from harness.spec.targets import Target

GRACE = 60.0
TOO_LONG = "not done in its time; --timeout sets the limit"


class FreshProcesses:
    """Takes measurements, each in a process of its own that ends with it; never two at once."""

    def __init__(self, *, torch: bool) -> None:
        """``torch`` is False where recorded models are all that is timed."""
        self._context = warm_up(torch=torch)

    def take(self, task: Task) -> Taken | str:
        """What the process measured, or why it did not come to that."""
        limit = seconds_allowed(task)
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_take, args=(theirs, task, limit), daemon=True)
        process.start()
        theirs.close()
        try:
            if not wait([ours], None if limit is None else limit + _most_for_size(task) + GRACE):
                return TOO_LONG
            answer: Taken | str = ours.recv()
        except EOFError:
            process.join()
            code = process.exitcode or 0
            return TOO_LONG if code == TIMED_OUT else how(code)
        finally:
            process.kill()
            process.join()
            if process.pid is not None and task.case.runs_own_code:
                end_those_of(process.pid)
            ours.close()
        return answer


def seconds_allowed(task: Task) -> float | None:
    """Each target may take as long as a check, and the measuring ten times its share; None is no limit."""
    timeout = task.settings.timeout
    return None if timeout is None else timeout * len(task.targets) + 10 * task.bench.budget_s


def _most_for_size(task: Task) -> float:
    """So much longer may the largest model take that this machine could hold; how large it is, its process knows."""
    return seconds_for(int(psutil.virtual_memory().total), task.settings) * len(task.targets)


def _take(pipe: Connection, task: Task, seconds: float | None) -> None:
    from harness.bench.process import take
    from harness.engine.processes.exits import become_their_ancestor
    from harness.engine.processes.limits import die_with_parent, extend, limited

    die_with_parent()
    become_their_ancestor()
    longer = 0

    def sized(size: int) -> None:
        nonlocal longer
        more = max(0, seconds_for(size, task.settings) * len(task.targets) - longer)
        extend(more)
        longer += more

    try:
        with limited(seconds, task.settings.memory):
            answer: Taken | str = take(task, sized)
    except BaseException as error:  # noqa: BLE001 - what a library raised in here is told, in words
        answer = message_of(error)
    pipe.send(answer)


RAW = ("samples_us", "interrupted", "pace_us", "eager_samples_us")
Taking = Mapping[str, Sequence[Taken | str]]


def told(plan: Plan, rows: Sequence[Result], taken: Taking, bench: BenchSettings) -> list[Result]:
    """``rows`` with what was measured of them, or with a note that says why it was not."""
    cases = {case.id: case for case, _ in plan.work}
    return [_told(row, cases[row.case], taken, bench) for row in rows]


def _told(row: Result, case: Case, taken: Taking, bench: BenchSettings) -> Result:
    if case.id not in taken or row.status != "passed":
        return row
    own, trouble = _figure(case, row.target, taken)
    if own is None:
        return replace(row, notes=(*row.notes, f"not timed: {trouble}"))
    by_shape, notes = [], list(row.notes)
    for other in bench_cases(case):
        figure, trouble = _figure(other, row.target, taken)
        if figure is None:
            notes.append(f"not timed at {shapes_of(other)}: {trouble}")
        else:
            by_shape.append(figure)
    asked = {"budget_s": bench.budget_s, "rounds_asked": bench.rounds, "cpus": list(bench.cpus) or None}
    first = {key: value for key, value in own.items() if key not in RAW}
    whole = {**own, **({"by_shape": [first, *by_shape]} if by_shape else {}), **asked, "concurrent_workers": 1}
    return replace(row, latency=whole, notes=tuple(notes))


def _figure(case: Case, target: str, taken: Taking) -> tuple[dict[str, Any] | None, str]:
    """The figures of ``target`` on ``case`` at its shapes, or None and why there are none."""
    processes = [one for one in taken[case.id] if isinstance(one, Taken)]
    troubles = [one for one in taken[case.id] if isinstance(one, str)]
    troubles += [one.troubles[target] for one in processes if target in one.troubles]
    if troubles or not processes:
        return None, troubles[0] if troubles else "no process was started"
    loaded = [one.loaded[target] for one in processes]
    measurements = [one.measurement for one in processes]
    names = measurements[0].series
    variants = {
        name.removeprefix(f"{target} "): _short(latency(name, measurements).to_dict())
        for name in names
        if name.startswith(f"{target} ") and name != series(target, TRANSFER)
    }
    figure = {
        "shapes": shapes_of(case),
        "elements": sum(prod(spec.shape) for spec in case.inputs),
        **latency(target, measurements).to_dict(),
        "load_s": _four_digits(median(each.load_s for each in loaded)),
        "first_run_s": _four_digits(median(each.first_run_s for each in loaded)),
        **({"variants": variants} if variants else {}),
        **loaded[0].facts,
    }
    if series(target, TRANSFER) in names:
        figure["transfer"] = _short(latency(series(target, TRANSFER), measurements).to_dict())
    if all(each.device_us is not None for each in loaded):
        figure["by_device"] = _device([each.device_us or () for each in loaded])
    return figure, ""


def _short(figure: Mapping[str, Any]) -> dict[str, Any]:
    """What a figure beside the main one tells."""
    keys = ("median_us", "low_us", "high_us", "ratio", "quotable", "notes", "samples_us")
    return {key: figure[key] for key in keys}


def _device(processes: Sequence[Sequence[float]]) -> dict[str, Any]:
    """The device's own clock: the processes' medians, and their interval."""
    summary = summarise([median(runs) for runs in processes])
    return {
        "median_us": summary.median,
        "low_us": summary.low,
        "high_us": summary.high,
        "samples_us": [list(runs) for runs in processes],
    }


def _four_digits(seconds: float) -> float:
    return float(f"{seconds:.4g}")


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

    ``results`` hold the checks of :func:`harness.bench.settings.with_shapes`. One that passed at its own shapes and
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
