"""All measurements of a run: verified checks are timed process by process, and the latency goes into the results.

Each measurement has a fresh process, one after another, so nothing of one measurement is left when the next begins.
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

from harness.check.settings import MEMORY_PER_BYTE, Settings, extra_seconds
from harness.check.stages import message_of
from harness.engine.bench import BenchSettings, bench_cases, shapes_of
from harness.engine.bench.node_times import with_node_times
from harness.engine.bench.process import TRANSFER, LoadedTarget, ProcessMeasurement, ProcessOutcome, Task, series_name
from harness.engine.processes.exits import describe_exit, kill_descendants_of
from harness.engine.processes.fork_server import start_server
from harness.engine.processes.limits import TIMED_OUT
from harness.latency.figure import latency, rounded
from harness.latency.statistics import summarise
from harness.plan import Plan
from harness.result import Result
from harness.spec.language.case import Case
from harness.spec.targets import Target

MeasureTask = Callable[[Task], ProcessOutcome]
Outcomes = Mapping[str, Sequence[ProcessOutcome]]
ResultsByCheck = Mapping[tuple[str, str], Result]


@dataclass(frozen=True, slots=True)
class TimedCase:
    """A case at one set of shapes, with the targets on which it verified there; they are timed together."""

    case: Case
    targets: tuple[Target, ...]


def time_all(
    plan: Plan,
    results: Sequence[Result],
    bench: BenchSettings,
    settings: Settings,
    scratch: Path,
    progress: Callable[[int], Callable[[], None]] = lambda _processes: lambda: None,
    *,
    traces: Path | None = None,
) -> list[Result]:
    """Return the ``results`` of ``plan``'s own checks; those that passed have their latency.

    ``results`` hold the checks of :func:`harness.engine.bench.with_shapes`. A check that passed at its own shapes and
    fails at a ``bench`` shape gets the result of that shape and is not timed: the speed of a wrong answer is never
    reported. ``progress`` is called with the number of processes; what it returns is called after each of them. With
    ``bench.layers``, the traces of the libraries are written to the folder ``traces``.
    """
    by_check = {(result.case, result.target): result for result in results}
    rows = [_with_bench_shapes(case, target, by_check) for case, targets in plan.jobs for target in targets]
    passed = {(row.case, row.target) for row in rows if row.status == "passed"}
    timed = list(_timed_cases(plan, passed))
    needs_torch = not all(each.case.is_recorded for each in timed)
    if not timed:
        return rows
    fresh = FreshProcesses(torch=needs_torch)
    requested = {case.id for case, _ in plan.jobs}
    profiled = [each for each in timed if bench.layers and each.case.id in requested]
    done = progress(len(timed) * bench.processes + len(profiled))
    outcomes = measure_in_turns(timed, bench, settings, scratch, fresh.measure, done)
    rows = with_latency(plan, rows, outcomes, bench)
    if not profiled or traces is None:
        return rows
    traces.mkdir(parents=True, exist_ok=True)
    node_outcomes: dict[str, ProcessOutcome] = {}
    for each in profiled:
        task = Task(each.case, each.targets, bench.processes, bench, settings, scratch, Path.cwd(), traces)
        node_outcomes[each.case.id] = fresh.measure(task)
        done()
    return [with_node_times(row, node_outcomes.get(row.case), traces) for row in rows]


def _with_bench_shapes(case: Case, target: Target, by_check: ResultsByCheck) -> Result:
    """The result at the case's own shapes; if it passed, the first result at a ``bench`` shape that did not pass."""
    result = by_check[case.id, str(target)]
    if result.status != "passed":
        return result
    for resized in bench_cases(case):
        at_shapes = by_check[resized.id, str(target)]
        if at_shapes.status != "passed":
            shapes = resized.id.removeprefix(f"{case.id} ")
            return replace(at_shapes, case=case.id, message=f"{shapes}: {at_shapes.message}")
    return result


def _timed_cases(plan: Plan, passed: set[tuple[str, str]]) -> Iterator[TimedCase]:
    for case, targets in plan.jobs:
        verified = tuple(target for target in targets if (case.id, str(target)) in passed)
        if verified and case.expect.raises is None:
            yield from (TimedCase(each, verified) for each in (case, *bench_cases(case)))


def measure_in_turns(
    timed: Sequence[TimedCase],
    bench: BenchSettings,
    settings: Settings,
    scratch: Path,
    measure: MeasureTask,
    done: Callable[[], None],
) -> dict[str, list[ProcessOutcome]]:
    """Return the outcome of each process of each timed case, by the case's id.

    Every case has its turn before any has its next one, in an order drawn anew: the processes of one case are spread
    over the whole run, so their differences include everything that the machine does meanwhile. A case whose process
    did not finish has no further turn.
    """
    outcomes: dict[str, list[ProcessOutcome]] = {each.case.id: [] for each in timed}
    rng = random.Random(0)  # noqa: S311 - an order, no secret
    for turn in range(bench.processes):
        for each in rng.sample(list(timed), len(timed)):
            so_far = outcomes[each.case.id]
            if not any(isinstance(outcome, str) for outcome in so_far):
                so_far.append(measure(Task(each.case, each.targets, turn, bench, settings, scratch, Path.cwd())))
            done()
    return outcomes


# The measuring processes

GRACE = 60.0
"""Seconds after the end of a process's time in which it must be gone by itself."""
TOO_LONG = "did not finish within its time limit; raise it with --timeout"


class FreshProcesses:
    """Measures each task in its own process, which ends with it; never two at once."""

    def __init__(self, *, torch: bool) -> None:
        """``torch`` is False where only recorded models are timed."""
        self._context = start_server(torch=torch)

    def measure(self, task: Task) -> ProcessOutcome:
        """What the process measured, or the reason why it measured nothing."""
        limit = seconds_allowed(task)
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_measure_in_process, args=(theirs, task, limit), daemon=True)
        process.start()
        theirs.close()
        try:
            if not wait([ours], None if limit is None else limit + _max_extra_seconds(task) + GRACE):
                return TOO_LONG
            outcome: ProcessOutcome = ours.recv()
        except EOFError:
            process.join()
            code = process.exitcode or 0
            return TOO_LONG if code == TIMED_OUT else describe_exit(code)
        finally:
            process.kill()
            process.join()
            if process.pid is not None and task.case.runs_user_code:
                kill_descendants_of(process.pid)
            ours.close()
        return outcome


def seconds_allowed(task: Task) -> float | None:
    """Each target may take as long as a check, and the measuring ten times its share; None is no limit."""
    timeout = task.settings.timeout
    return None if timeout is None else timeout * len(task.targets) + 10 * task.bench.budget_s


def _max_extra_seconds(task: Task) -> float:
    """The extra time of the largest model that this machine could hold; only the process itself knows the real size."""
    return extra_seconds(int(psutil.virtual_memory().total), task.settings) * len(task.targets)


def _measure_in_process(pipe: Connection, task: Task, seconds: float | None) -> None:
    from harness.engine.bench.process import measure_task
    from harness.engine.processes.exits import become_subreaper
    from harness.engine.processes.limits import die_with_parent, extend_memory_limit, extend_time_limit, limited

    die_with_parent()
    become_subreaper()
    extended = largest = 0

    def on_size(size: int) -> None:
        nonlocal extended, largest
        more = max(0, extra_seconds(size, task.settings) * len(task.targets) - extended)
        extend_time_limit(more)
        extended += more
        extend_memory_limit(MEMORY_PER_BYTE * max(0, size - largest))
        largest = max(largest, size)

    try:
        with limited(seconds, task.settings.memory):
            outcome: ProcessOutcome = measure_task(task, on_size)
    except BaseException as error:  # noqa: BLE001 - what a library raised in here is reported as text
        outcome = message_of(error)
    pipe.send(outcome)


# The latency of a result

RAW_SAMPLES = ("samples_us", "interrupted", "calibration_us", "eager_samples_us")


def with_latency(plan: Plan, rows: Sequence[Result], outcomes: Outcomes, bench: BenchSettings) -> list[Result]:
    """Return ``rows`` with their latency, or with a note that says why they were not timed."""
    cases = {case.id: case for case, _ in plan.jobs}
    return [_with_latency(row, cases[row.case], outcomes, bench) for row in rows]


def _with_latency(row: Result, case: Case, outcomes: Outcomes, bench: BenchSettings) -> Result:
    if case.id not in outcomes or row.status != "passed":
        return row
    own_latency, error = _latency_at(case, row.target, outcomes)
    if own_latency is None:
        return replace(row, notes=(*row.notes, f"not timed: {error}"))
    by_shape, notes = [], list(row.notes)
    for resized in bench_cases(case):
        figure, error = _latency_at(resized, row.target, outcomes)
        if figure is None:
            notes.append(f"not timed at {shapes_of(resized)}: {error}")
        else:
            by_shape.append(figure)
    settings = {"budget_s": bench.budget_s, "rounds_asked": bench.rounds, "cpus": list(bench.cpus) or None}
    summary = {key: value for key, value in own_latency.items() if key not in RAW_SAMPLES}
    shapes = {"by_shape": [summary, *by_shape]} if by_shape else {}
    return replace(row, latency={**own_latency, **shapes, **settings, "concurrent_workers": 1}, notes=tuple(notes))


def _latency_at(case: Case, target: str, outcomes: Outcomes) -> tuple[dict[str, Any] | None, str]:
    """The latency of ``target`` on ``case`` at its shapes, or None and the reason."""
    processes = [outcome for outcome in outcomes[case.id] if isinstance(outcome, ProcessMeasurement)]
    errors = [outcome for outcome in outcomes[case.id] if isinstance(outcome, str)]
    errors += [process.errors[target] for process in processes if target in process.errors]
    if errors or not processes:
        return None, errors[0] if errors else "no process was started"
    loaded = [process.loaded[target] for process in processes]
    measurements = [process.measurement for process in processes]
    names = measurements[0].series
    variants = {
        name.removeprefix(f"{target} "): _short(latency(name, measurements).to_dict())
        for name in names
        if name.startswith(f"{target} ") and name != series_name(target, TRANSFER)
    }
    figure = {
        "shapes": shapes_of(case),
        "elements": sum(prod(spec.shape) for spec in case.inputs),
        **latency(target, measurements).to_dict(),
        "load_s": rounded(median(each.load_s for each in loaded)),
        "first_run_s": rounded(median(each.first_run_s for each in loaded)),
        "start": _start_figures(loaded),
        **({"variants": variants} if variants else {}),
        **loaded[0].facts,
    }
    if series_name(target, TRANSFER) in names:
        figure["transfer"] = _short(latency(series_name(target, TRANSFER), measurements).to_dict())
    if all(each.device_us is not None for each in loaded):
        figure["by_device"] = _device_latency([each.device_us or () for each in loaded])
    return figure, ""


def _start_figures(loaded: Sequence[LoadedTarget]) -> dict[str, Any]:
    """What it takes until the first answer, over the processes: the median of each figure and its interval."""
    peaks = [each.peak_mb for each in loaded]
    figures: dict[str, Sequence[float]] = {
        "load_s": [each.load_s for each in loaded],
        "first_run_s": [each.first_run_s for each in loaded],
        "peak_mb": [peak for peak in peaks if peak is not None] if all(peak is not None for peak in peaks) else [],
    }
    return {name: _start_figure(samples) for name, samples in figures.items() if samples}


def _start_figure(samples: Sequence[float]) -> dict[str, Any]:
    summary = summarise(samples)
    figure: dict[str, Any] = rounded(
        {"median": summary.median, "low": summary.low, "high": summary.high, "samples": tuple(samples)}
    )
    return figure


def _short(figure: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a variant keeps of its latency."""
    keys = ("median_us", "low_us", "high_us", "ratio", "low_confidence", "notes", "samples_us")
    return {key: figure[key] for key in keys}


def _device_latency(processes: Sequence[Sequence[float]]) -> dict[str, Any]:
    """The latency by the device's own clock: the median of the processes' medians, and its interval."""
    summary = summarise([median(runs) for runs in processes])
    return {
        "median_us": summary.median,
        "low_us": summary.low,
        "high_us": summary.high,
        "samples_us": [list(runs) for runs in processes],
    }
