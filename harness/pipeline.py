"""The story: specs are read, checks are planned and run, results are judged, the report is written."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

from harness.bench import BenchSettings, time_all, with_shapes
from harness.blame.other_targets import with_elsewhere, witnesses
from harness.check.settings import Settings
from harness.engine.cluster import Cluster
from harness.engine.processes.temporary import temporary_folder
from harness.engine.run_checks import RunState, close, run_jobs
from harness.environment import describe
from harness.errors import SIGNALLED, Interrupted, RuntimeMissing, UsageError, interrupted_by
from harness.gate import expected, judge
from harness.plan import Plan, Shard, plan
from harness.registry import plugins
from harness.report.diff import MIN_EFFECT, Diff, diff, verdict_of
from harness.report.json_report import read_report
from harness.report.write import write
from harness.result import Report, Result
from harness.spec.discovery import Specs, listed, load
from harness.spec.known_failures import KnownFailure


@dataclass(frozen=True, slots=True)
class Request:
    """What ``harness run`` was asked for; each field is the option of the same name. ``bench`` times thoroughly."""

    paths: tuple[str, ...]
    targets: tuple[str, ...] = ("default",)
    keywords: tuple[str, ...] = ()
    shard: Shard | None = None
    workers: int = 0
    cluster: Cluster | None = None
    report_dir: Path = Path("reports/latest")
    formats: tuple[str, ...] = ("json", "md")
    known_failures: Path | None = None
    require: tuple[str, ...] = ()
    resume: bool = False
    allow_import: bool = False
    settings: Settings = field(default_factory=Settings)
    bench: BenchSettings | None = None
    baseline: Path | None = None
    min_effect: float = MIN_EFFECT


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to: the judged report, the files it was written to, and the exit code.

    ``diff`` is what changed since the baseline, where one was given.
    """

    report: Report
    files: tuple[Path, ...]
    exit_code: int
    diff: Diff | None = None


class Watcher(Protocol):
    """Somebody who looks on while checks run."""

    def begin(self, total: int, what: str = "checks") -> None:
        """So many are about to run."""
        ...

    def advance(self, result: Result | None = None) -> None:
        """One more is known; ``result`` is what it came to, where it is a check."""
        ...

    def end(self) -> None:
        """No more will come."""
        ...


class _Expecting:
    """Tells a watcher of failures that are known as what they are, while the run goes on."""

    def __init__(self, watcher: Watcher, known: Sequence[KnownFailure], versions: Mapping[str, str]) -> None:
        self._watcher = watcher
        self._known = [entry for entry in known if entry.applies(versions)]
        self.begin, self.end = watcher.begin, watcher.end

    def advance(self, result: Result | None = None) -> None:
        """One more is known."""
        if result is not None and result.status != "passed":
            result = expected(result, [one for one in self._known if one.matches(result.case, result.target)])
        self._watcher.advance(result)


def run(request: Request, watcher: Watcher) -> Outcome:
    """Verify and time everything that ``request`` names, and write the report.

    Raises :class:`harness.errors.RequestError` where the request is wrong, before anything runs.
    """
    began = time.time()
    specs = load(request.paths, allow_import=request.allow_import, known_failures=request.known_failures)
    if specs.bundle is not None:
        from harness.check.recorded.packed import refuse_strays

        refuse_strays(specs.cases)
    targets = specs.target_sets.select(request.targets)
    known = listed(specs, request.paths, targets, request.known_failures)
    asked = plan(specs.cases, targets, request.keywords, request.shard)
    _require(request.require, here=request.cluster is None)
    baseline = None if request.baseline is None else read_report(request.baseline)
    request = _as_thorough(request, baseline)
    work = asked if request.bench is None else with_shapes(asked)
    done = _carry_out(request, work, _Expecting(watcher, known, specs.versions))
    results, by = done.results, done.interrupted_by
    if request.bench is not None and by is None:
        results, by = _timed(request, request.bench, asked, results, watcher)

    def conclude(by: signal.Signals | None) -> Outcome:
        verdict = judge(_in_order(results, asked), known, versions=specs.versions, required=request.require)
        about = _about(request, specs, began, by, done) | {"complaints": list(verdict.complaints)}
        further = () if by else _bear_witness(request, asked, verdict.results, watcher)
        report = Report(describe(), with_elsewhere(verdict.results, further), about)
        changed = None if baseline is None else diff(baseline, report, min_effect=request.min_effect)
        if changed is not None:
            against = {"file": str(request.baseline), "verdict": verdict_of(changed)}
            report = replace(report, run=about | {"baseline": against, "comparison": changed.to_dict()})
        files = write(report, request.report_dir, request.formats)
        exit_code = SIGNALLED + by if by else verdict.exit_code or int(bool(changed and changed.regressions))
        return Outcome(report, tuple(files), exit_code, changed)

    try:
        outcome = conclude(by)
    except KeyboardInterrupt as error:
        # The checks are done and the report is not written: it will say so, and the journal stays to go on with.
        return conclude(interrupted_by(error))
    if by is None:
        close(request.report_dir)
    return outcome


def _as_thorough(request: Request, baseline: Report | None) -> Request:
    """``request``, timed as thoroughly as the baseline was: else the two could not be compared."""
    bench = request.bench
    if bench is None and baseline is not None and request.settings.latency:
        bench = BenchSettings.from_report(baseline.run)
    if bench is None:
        return request
    return replace(request, bench=bench, settings=replace(request.settings, latency=False))


def _timed(
    request: Request, bench: BenchSettings, asked: Plan, results: Sequence[Result], watcher: Watcher
) -> tuple[list[Result], signal.Signals | None]:
    """The results of the checks that were asked for, with their latency; without, where a signal stopped the run."""

    def looking_on(processes: int) -> Callable[[], None]:
        watcher.begin(processes, "measurements")
        return watcher.advance

    try:
        with temporary_folder() as scratch:
            return time_all(asked, results, bench, request.settings, scratch, looking_on), None
    except KeyboardInterrupt as error:
        return list(results), interrupted_by(error)
    finally:
        watcher.end()


def _carry_out(request: Request, work: Plan, watcher: Watcher) -> RunState:
    """All checks, until the last or until somebody stops the run."""
    workers = request.workers or len(os.sched_getaffinity(0))
    watcher.begin(work.checks)
    try:
        return run_jobs(
            work.work,
            request.settings,
            workers,
            request.report_dir,
            watcher,
            resume=request.resume,
            cluster=request.cluster,
        )
    finally:
        watcher.end()


def _bear_witness(request: Request, asked: Plan, results: Sequence[Result], watcher: Watcher) -> Sequence[Result]:
    """What further exports, which nobody asked for, come to for the cases whose disagreement is not expected."""
    work = Plan(witnesses(asked.work, results))
    if not work.checks:
        return ()
    workers = request.workers or len(os.sched_getaffinity(0))
    watcher.begin(work.checks, "checks for evidence")
    try:
        with temporary_folder() as folder:
            settings = replace(request.settings, latency=False)
            done = run_jobs(work.work, settings, workers, folder, _Counting(watcher), resume=False)
    except UsageError:
        return ()  # evidence at an opset that is not to be had here, which nobody asked for
    finally:
        watcher.end()
    if done.interrupted_by is not None:
        raise Interrupted(done.interrupted_by)
    return done.results


class _Counting:
    """Tells a watcher how many checks there were, and not what they came to."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def advance(self, _result: Result) -> None:
        """One more is known."""
        self._watcher.advance()


def _in_order(results: Sequence[Result], work: Plan) -> list[Result]:
    """The results of the checks of ``work``, as the specs name them, whatever order the workers finished in."""
    order = {
        (case.id, str(target)): at
        for at, (case, target) in enumerate((case, target) for case, targets in work.work for target in targets)
    }
    own = (result for result in results if (result.case, result.target) in order)
    return sorted(own, key=lambda result: order[result.case, result.target])


def _require(runtimes: Sequence[str], *, here: bool) -> None:
    """Raises :class:`RuntimeMissing` for the first of ``runtimes`` that is not on this machine, if checks run ``here``.

    On a cluster the gate says so at the end, of checks that were skipped for want of it.
    """
    for name in runtimes:
        if name not in plugins("runtimes"):
            raise UsageError(f"--require {name}: no such runtime; one of {', '.join(plugins('runtimes'))}")
        available = plugins("runtimes")[name].availability()
        if here and not available.present:
            raise RuntimeMissing(f"--require {available.why_not(name)}")


def _about(
    request: Request, specs: Specs, began: float, by: signal.Signals | None, done: RunState
) -> dict[str, object]:
    """What the reader of a report wants to know of the run itself."""
    return {
        "paths": list(request.paths),
        "targets": list(request.targets),
        "keywords": list(request.keywords),
        "shard": None if request.shard is None else f"{request.shard.index}/{request.shard.count}",
        "allow_import": request.allow_import,
        "files": len(specs.files),
        "bundle": None if specs.bundle is None else specs.bundle.told,
        "seconds": round(time.time() - began, 2),
        "bench": None if request.bench is None else asdict(request.bench),
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "interrupted": by is not None,
        "interrupted_by": by and by.name,
        "exports": {"made": done.exported, "from_cache": done.reused},
    }
