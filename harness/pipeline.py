"""``harness run``: read the specs, plan and run the checks, judge the results, write the report.

The steps are in :func:`run`. The command line, the Python API and ``harness bench`` call it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

from harness.blame.other_targets import evidence_checks, with_other_targets
from harness.check.settings import Settings
from harness.engine.bench import BenchSettings, with_shapes
from harness.engine.bench.timing import time_all
from harness.engine.cluster import Cluster
from harness.engine.preflight import require_fitting_weights
from harness.engine.processes.temporary import temporary_folder
from harness.engine.run_checks import CheckKey, RunState, remove_journal, run_jobs
from harness.engine.worker_slot import Workers
from harness.environment import describe
from harness.errors import SIGNAL_EXIT_BASE, Interrupted, RuntimeMissing, UsageError, interrupting_signal
from harness.exporters._onnx import require_existing_opsets
from harness.gate import apply_known_failures, final_result
from harness.plan import Plan, Shard, plan
from harness.registry import plugins
from harness.report import write
from harness.report.diff import MIN_EFFECT, Diff, diff, is_same_request, verdict_of
from harness.report.diff.start import StartFigure
from harness.report.json_report import read_report
from harness.report.wording import UNEXPECTED
from harness.result import Report, Result
from harness.spec.discovery import Specs, known_failures_for, load_specs
from harness.spec.known_failures import KnownFailure
from harness.spec.language.description import with_case
from harness.spec.targets.sets import DEFAULT_SET

TRACES = "traces"
"""The folder in the report's that holds the traces of ``harness bench --layers``."""


@dataclass(frozen=True, slots=True)
class Request:
    """The options of ``harness run``; each field is the option of the same name.

    With ``bench``, checks are timed thoroughly, as by ``harness bench``. ``only`` are the checks of ``--lf``. With
    ``kept``, which holds the idle workers between runs, the journal is kept too. ``compared`` is a spec in no file.
    """

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
    gate: tuple[StartFigure, ...] = ()
    strict: bool = False
    maxfail: int | None = None
    only: frozenset[CheckKey] | None = None
    kept: Workers | None = None
    compared: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run: the judged report, the files that were written, and the exit code.

    ``diff`` is what changed since the baseline; None if there is no baseline.
    """

    report: Report
    files: tuple[Path, ...]
    exit_code: int
    diff: Diff | None = None


class ProgressListener(Protocol):
    """Is notified of the progress of a run."""

    def begin(self, total: int, unit: str = "checks") -> None:
        """``total`` checks, or whatever ``unit`` names, are about to run."""
        ...

    def advance(self, result: Result | None = None) -> None:
        """One more is done; ``result`` is its result if it is a check."""
        ...

    def end(self) -> None:
        """Nothing more will run."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a request asks for, read and checked: the specs, the known failures that apply, and the checks to run."""

    specs: Specs
    known: tuple[KnownFailure, ...]
    plan: Plan


def prepare(request: Request, specs: Specs | None = None) -> Prepared:
    """Read the specs, unless ``specs`` are given, and plan the checks; nothing runs.

    Raises :class:`harness.errors.RequestError` if the request is wrong.
    """
    if request.baseline is None and (request.gate or request.min_effect != MIN_EFFECT):
        option = f"--gate {','.join(request.gate)}" if request.gate else f"--min-effect {request.min_effect:g}"
        raise UsageError(f"{option}: there is nothing to compare with; give --baseline REPORT.json")
    if specs is None:
        specs = load_specs(request.paths, allow_import=request.allow_import, known_failures=request.known_failures)
    if specs.bundle is not None:
        from harness.check.recorded.packed import check_external_data

        check_external_data(specs.cases)
    targets = specs.target_sets.select(request.targets)
    require_existing_opsets(targets)
    known = known_failures_for(specs, request.paths, targets, request.known_failures)
    by_default = specs.target_sets if request.targets == (DEFAULT_SET,) else None
    requested = plan(specs.cases, targets, request.keywords, request.shard, by_default=by_default)
    require_fitting_weights(case for case, _ in requested.jobs)
    return Prepared(specs, known, requested if request.only is None else requested.only(request.only))


def run(request: Request, listener: ProgressListener, specs: Specs | None = None) -> Outcome:
    """Verify and time everything that ``request`` names, and write the report.

    ``specs`` are used instead of reading the paths of the request.

    Raises :class:`harness.errors.RequestError` if the request is wrong, before anything runs.
    """
    began = time.time()
    prepared = prepare(request, specs)
    specs, known, requested = prepared.specs, prepared.known, prepared.plan
    _require(request.require, here=request.cluster is None)
    baseline = None if request.baseline is None else read_report(request.baseline)
    request = _timed_like_baseline(request, baseline)
    planned = requested if request.bench is None else with_shapes(requested)
    counter = _WithKnownFailures(listener, known, specs.versions, strict=request.strict, maxfail=request.maxfail)
    state = _run_checks(request, planned, counter)
    results, signal_received = state.results, state.interrupted_by
    not_run = planned.checks - len(results) if counter.enough() else 0
    if request.bench is not None and signal_received is None and not not_run:
        results, signal_received = _with_latency(request, request.bench, requested, results, listener)

    def conclude(by: signal.Signals | None) -> Outcome:
        judged = apply_known_failures(
            _in_plan_order(results, requested),
            known,
            versions=specs.versions,
            required=() if not_run else request.require,
            strict=request.strict,
            layers=bool(request.settings.layers) and not (by or not_run),
        )
        about = _describe_run(request, specs, began, by, state) | {"complaints": list(judged.complaints)}
        about |= ({"not_run": not_run} if not_run else {}) | {"unmatched_keywords": list(requested.unmatched)}
        further = () if by else _run_other_targets(request, requested, judged.results, listener)
        report = Report(describe(), with_other_targets(judged.results, further), about)
        changed = None
        if baseline is not None:
            partial = bool(not_run or request.only) or not is_same_request(baseline.run, about)
            changed = diff(baseline, report, min_effect=request.min_effect, allow_missing=partial, gate=request.gate)
            against = {"file": str(request.baseline), "verdict": verdict_of(changed)}
            report = replace(report, run=about | {"baseline": against, "comparison": changed.to_dict()})
        files = write(report, request.report_dir, request.formats)
        exit_code = SIGNAL_EXIT_BASE + by if by else judged.exit_code or int(bool(changed and changed.regressed))
        return Outcome(report, tuple(files), exit_code, changed)

    try:
        outcome = conclude(signal_received)
    except KeyboardInterrupt as error:
        # The checks are done, but the report is not written. It will say so, and the journal stays for --resume.
        return conclude(interrupting_signal(error))
    if signal_received is None and not not_run and request.kept is None:  # else --resume can continue it
        remove_journal(request.report_dir)
    return outcome


def _require(runtimes: Sequence[str], *, here: bool) -> None:
    """Raise :class:`RuntimeMissing` for the first of ``runtimes`` that is not on this machine, if checks run ``here``.

    On a cluster, the gate reports it at the end, for the checks that were skipped.
    """
    for name in runtimes:
        if name not in plugins("runtimes"):
            raise UsageError(f"--require {name}: no such runtime; use one of {', '.join(plugins('runtimes'))}")
        available = plugins("runtimes")[name].availability()
        if here and not available.present:
            raise RuntimeMissing(f"--require {available.unavailable_message(name)}")


def _timed_like_baseline(request: Request, baseline: Report | None) -> Request:
    """``request``, timed as thoroughly as the baseline was; otherwise the latencies could not be compared."""
    bench = request.bench
    if bench is None and baseline is not None and request.settings.latency:
        bench = BenchSettings.from_report(baseline.run)
    if bench is None:
        return request
    return replace(request, bench=bench, settings=replace(request.settings, latency=False))


def _run_checks(request: Request, planned: Plan, listener: _WithKnownFailures) -> RunState:
    """Run all checks, to the last one, until a signal stops the run, or until enough have failed."""
    listener.begin(planned.checks)
    try:
        return run_jobs(
            planned.jobs,
            request.settings,
            request.workers,
            request.report_dir,
            listener,
            resume=request.resume,
            cluster=request.cluster,
            kept=request.kept,
            enough=listener.enough,
        )
    finally:
        listener.end()


def _with_latency(
    request: Request, bench: BenchSettings, requested: Plan, results: Sequence[Result], listener: ProgressListener
) -> tuple[list[Result], signal.Signals | None]:
    """``results`` with thorough latency, and None; or unchanged, and the signal that stopped the run."""

    def begin(processes: int) -> Callable[[], None]:
        listener.begin(processes, "measurements")
        return listener.advance

    try:
        with temporary_folder() as scratch:
            traces = request.report_dir / TRACES if bench.layers else None
            return time_all(requested, results, bench, request.settings, scratch, begin, traces=traces), None
    except KeyboardInterrupt as error:
        return list(results), interrupting_signal(error)
    finally:
        listener.end()


def _run_other_targets(
    request: Request, requested: Plan, results: Sequence[Result], listener: ProgressListener
) -> Sequence[Result]:
    """The results of further exports, which the request does not name, as evidence for unexpected disagreements."""
    planned = Plan(evidence_checks(requested.jobs, results))
    if not planned.checks:
        return ()
    listener.begin(planned.checks, "checks for evidence")
    try:
        with temporary_folder() as folder:
            settings, counter = replace(request.settings, latency=False), _WithoutResults(listener)
            state = run_jobs(planned.jobs, settings, request.workers, folder, counter, resume=False, kept=request.kept)
    except UsageError:
        return ()  # an opset that is not available here, which the request does not name
    finally:
        listener.end()
    if state.interrupted_by is not None:
        raise Interrupted(state.interrupted_by)
    return state.results


class _WithKnownFailures:
    """Passes results on to a listener with their final status, so that known failures are counted as known.

    It also counts those that are not as expected, for ``maxfail``.
    """

    def __init__(
        self,
        listener: ProgressListener,
        known: Sequence[KnownFailure],
        versions: Mapping[str, str],
        *,
        strict: bool,
        maxfail: int | None,
    ) -> None:
        self._maxfail, self._unexpected = maxfail, 0
        self._listener, self._strict = listener, strict
        self._known = [entry for entry in known if entry.applies(versions)]
        self.begin, self.end, self.tell = listener.begin, listener.end, getattr(listener, "tell", None)

    def advance(self, result: Result | None = None) -> None:
        """Pass one result on."""
        if result is not None and (result.status != "passed" or self._strict):
            entries = [entry for entry in self._known if entry.matches(result.case, result.target)]
            result = final_result(result, entries, strict=self._strict)
        self._unexpected += result is not None and result.status in UNEXPECTED
        self._listener.advance(result)

    def enough(self) -> bool:
        """True if as many checks were not as expected as the run may have."""
        return self._maxfail is not None and self._unexpected >= self._maxfail


class _WithoutResults:
    """Tells a listener that a check is done, without its result."""

    def __init__(self, listener: ProgressListener) -> None:
        self._listener = listener

    def advance(self, _result: Result) -> None:
        """Count one more."""
        self._listener.advance()


def _in_plan_order(results: Sequence[Result], requested: Plan) -> list[Result]:
    """The results of the plan's checks, in its order instead of the workers', with what is said of their cases."""
    checks = [(case.id, str(target)) for case, targets in requested.jobs for target in targets]
    order = {check: position for position, check in enumerate(checks)}
    cases = {case.id: case for case, _ in requested.jobs}
    of_plan = (with_case(result, cases[result.case]) for result in results if (result.case, result.target) in order)
    return sorted(of_plan, key=lambda result: order[result.case, result.target])


def _describe_run(
    request: Request, specs: Specs, began: float, by: signal.Signals | None, state: RunState
) -> dict[str, object]:
    """The part ``run`` of the report."""
    return {
        "paths": list(request.paths),
        "targets": list(request.targets),
        "keywords": list(request.keywords),
        "shard": None if request.shard is None else f"{request.shard.index}/{request.shard.count}",
        "allow_import": request.allow_import,
        "layers": bool(request.settings.layers),
        "strict": request.strict,
        "strict_ulp": request.settings.strict_ulp,
        "files": len(specs.files),
        "bundle": None if specs.bundle is None else specs.bundle.report_entry,
        "seconds": round(time.time() - began, 2),
        "bench": None if request.bench is None else asdict(request.bench),
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "interrupted": by is not None,
        "interrupted_by": by and by.name,
        "exports": {"made": state.exported, "from_cache": state.reused},
        "compared": request.compared,
    }
