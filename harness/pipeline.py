"""The story: specs are read, checks are planned and run, results are judged, the report is written."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

from harness.bench import BenchSettings, time_all, with_shapes
from harness.blame.elsewhere import with_elsewhere
from harness.engine.job import Job, fingerprint
from harness.engine.journal import JournalWriter, recorded
from harness.engine.local import LocalEngine
from harness.environment import describe, versions
from harness.errors import RuntimeMissing, UsageError
from harness.gate import expected, judge
from harness.plan import Plan, Shard, plan
from harness.registry import plugins
from harness.report.diff import MIN_EFFECT, Diff, diff, verdict_of
from harness.report.json_report import read_report
from harness.report.write import write
from harness.result import Report, Result
from harness.runtimes import Strict
from harness.spec.discover import Specs, load
from harness.spec.glob import matches
from harness.spec.known_failures import KnownFailure, load_known_failures
from harness.spec.target import Target
from harness.verify.settings import Settings

JOURNAL = "journal.jsonl"
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Request:
    """What ``harness run`` was asked for; each field is the option of the same name. ``bench`` times thoroughly."""

    paths: tuple[str, ...]
    targets: tuple[str, ...] = ("default",)
    keywords: tuple[str, ...] = ()
    shard: Shard | None = None
    workers: int = 0
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

    def __init__(self, watcher: Watcher, known: Sequence[KnownFailure]) -> None:
        self._watcher = watcher
        self._known = [entry for entry in known if entry.applies(versions())]
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
    specs = load(request.paths, allow_import=request.allow_import)
    sets = specs.target_sets
    targets = sets.select(request.targets)
    _check_options(targets)
    known = _known(request, specs)
    asked = plan(specs.cases, targets, request.keywords, request.shard)
    _require(request.require)
    baseline = None if request.baseline is None else read_report(request.baseline)
    request = _as_thorough(request, baseline)
    work = asked if request.bench is None else with_shapes(asked)
    results, interrupted = _carry_out(request, work, _Expecting(watcher, known))
    if request.bench is not None and not interrupted:
        results, interrupted = _timed(request, request.bench, asked, results, watcher)
    verdict = judge(
        _in_order(results, asked),
        known,
        versions=versions(),
        all_cases=[case.id for case in specs.cases],
        all_targets=[str(target) for target in (*sets.all, *targets)],
        required=request.require,
    )
    about = _about(request, specs, began, interrupted) | {"complaints": list(verdict.complaints)}
    report = Report(describe(), with_elsewhere(verdict.results), about)
    changed = None if baseline is None else diff(baseline, report, min_effect=request.min_effect)
    if changed is not None:
        against = {"file": str(request.baseline), "verdict": verdict_of(changed)}
        report = replace(report, run=about | {"baseline": against, "comparison": changed.to_dict()})
    files = write(report, request.report_dir, request.formats)
    if not interrupted:
        (request.report_dir / JOURNAL).unlink(missing_ok=True)
    exit_code = INTERRUPTED if interrupted else verdict.exit_code or int(bool(changed and changed.regressions))
    return Outcome(report, tuple(files), exit_code, changed)


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
) -> tuple[list[Result], bool]:
    """The results of the checks that were asked for, with their latency; without, where somebody stopped the run."""

    def looking_on(processes: int) -> Callable[[], None]:
        watcher.begin(processes, "measurements")
        return watcher.advance

    try:
        with _scratch() as scratch:
            return time_all(asked, results, bench, request.settings, scratch, looking_on), False
    except KeyboardInterrupt:
        return list(results), True
    finally:
        watcher.end()


def _carry_out(request: Request, work: Plan, watcher: Watcher) -> tuple[list[Result], bool]:
    """The results of all checks, and whether somebody stopped the run before its end."""
    workers = request.workers or len(os.sched_getaffinity(0))
    results: list[Result] = []
    with _journal(request) as journal, _scratch() as scratch:
        jobs, kept = _jobs(request, work, workers, journal, scratch)
        watcher.begin(work.checks)
        try:
            for result in kept:
                results.append(result)
                watcher.advance(result)
            for result in LocalEngine(min(workers, max(1, len(jobs))), journal, scratch).run(jobs):
                results.append(result)
                watcher.advance(result)
        except KeyboardInterrupt:
            return results, True
        finally:
            watcher.end()
    return results, False


def _jobs(request: Request, work: Plan, workers: int, journal: Path, scratch: Path) -> tuple[list[Job], list[Result]]:
    """What is to be run, and what an interrupted run has already done of it."""
    earlier = recorded(journal) if request.resume else {}
    settings = replace(request.settings, concurrent=workers)
    jobs, kept = [], []
    for case, targets in work.work:
        left = []
        for target in targets:
            of, result = earlier.get((case.id, str(target)), ("", None))
            if result is not None and of == fingerprint(case, target, request.settings):
                kept.append(result)
            else:
                left.append(target)
        if left:
            jobs.append(Job(case, tuple(left), settings, journal, scratch, Path.cwd()))
    if not request.resume:
        journal.unlink(missing_ok=True)
        JournalWriter(journal).close()
    return jobs, kept


@contextmanager
def _journal(request: Request) -> Iterator[Path]:
    """The journal in the report's folder; that it can be written is known before the first check."""
    try:
        request.report_dir.mkdir(parents=True, exist_ok=True)
        JournalWriter(request.report_dir / JOURNAL).close()
    except OSError as error:
        said = f"--report-dir {request.report_dir}: {error.strerror}; name a folder that can be written"
        raise UsageError(said) from error
    yield (request.report_dir / JOURNAL).resolve()


@contextmanager
def _scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="harness-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _in_order(results: Sequence[Result], work: Plan) -> list[Result]:
    """The results of the checks of ``work``, as the specs name them, whatever order the workers finished in."""
    order = {
        (case.id, str(target)): at
        for at, (case, target) in enumerate((case, target) for case, targets in work.work for target in targets)
    }
    own = (result for result in results if (result.case, result.target) in order)
    return sorted(own, key=lambda result: order[result.case, result.target])


def _check_options(targets: Sequence[Target]) -> None:
    """Raises :class:`UsageError` for an option's value that its runtime does not know, before anything runs."""
    for target in targets:
        runtime = plugins("runtimes")[target.runtime]
        if isinstance(runtime, Strict):
            runtime.check(target.options)


def _known(request: Request, specs: Specs) -> tuple[KnownFailure, ...]:
    """The known failures of these specs.

    Where only some files of the list's folder are given, an entry may well speak of the others: it is left out, not
    called stale.
    """
    path = request.known_failures or specs.known_failures
    known = load_known_failures(path)
    whole = path is not None and any(Path(given).resolve() == path.parent.resolve() for given in request.paths)
    if whole or request.known_failures is not None:
        return known
    return tuple(entry for entry in known if any(matches(entry.cases, case.id) for case in specs.cases))


def _require(runtimes: Sequence[str]) -> None:
    """Raises :class:`RuntimeMissing` for the first of ``runtimes`` that is not on this machine."""
    for name in runtimes:
        if name not in plugins("runtimes"):
            raise UsageError(f"--require {name}: no such runtime; one of {', '.join(plugins('runtimes'))}")
        available = plugins("runtimes")[name].availability()
        if not available.present:
            raise RuntimeMissing(f"--require {name}: {available.missing}; {available.bring}")


def _about(request: Request, specs: Specs, began: float, interrupted: bool) -> dict[str, object]:
    """What the reader of a report wants to know of the run itself."""
    return {
        "paths": list(request.paths),
        "targets": list(request.targets),
        "keywords": list(request.keywords),
        "shard": None if request.shard is None else f"{request.shard.index}/{request.shard.count}",
        "allow_import": request.allow_import,
        "files": len(specs.files),
        "seconds": round(time.time() - began, 2),
        "bench": None if request.bench is None else asdict(request.bench),
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "interrupted": interrupted,
    }
