"""Kept reports in the order of their runs, and the points at which parity or a latency changed.

The rule is that of :mod:`harness.report.diff`. A check's outcome is compared with that of the run before. A latency is
compared with that of its last change point, so that many small steps in one direction become a change too; on another
machine all latencies begin anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import Problem, SpecError, UsageError
from harness.report.diff import PARITY_LABELS, ParityChange, diff, has_same_calibration_loop
from harness.report.diff.latency import LatencyChange
from harness.report.json_report import read_report
from harness.report.wording import unexpected
from harness.result import Report, Result, to_json
from harness.spec.quoting import count_of

NOTABLE = frozenset({"regressed", "mended", "gone", "unverified", "verified"})
"""The kinds of changes of parity that are change points; new checks are, if they are not as expected."""
Check = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Run:
    """One report: where it is, when its run began (ISO 8601, UTC), its counts, and what changed with it.

    ``latencies`` are medians in microseconds with the bounds of their intervals, by check.
    """

    path: str
    began: str
    checks: int
    unexpected: int
    parity: tuple[ParityChange, ...]
    latency: tuple[LatencyChange, ...]
    latencies: Mapping[Check, tuple[float, float, float]]
    new_machine: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The run in types that JSON has."""
        figures = [
            {"case": case, "target": target, "median_us": median, "low_us": low, "high_us": high}
            for (case, target), (median, low, high) in self.latencies.items()
        ]
        return {**to_json(replace(self, latencies={})), "latencies": figures}


def read_reports(folder: Path) -> list[tuple[Path, Report]]:
    """The reports below ``folder`` in the order in which their runs began; JSON files of another kind are left out.

    Raises :class:`UsageError` if there are fewer than two, and :class:`SpecError` with every report that is damaged.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder; name the one that your reports are kept in")
    reports: list[tuple[Path, Report]] = []
    problems: list[Problem] = []
    for path in sorted(folder.rglob("*.json")):
        try:
            reports.append((path, read_report(path)))
        except SpecError as error:
            if path.name == "report.json" or not _is_of_another_kind(path):
                problems += error.problems
    if problems:
        raise SpecError(problems)
    if len(reports) < 2:
        raise UsageError(f"{folder}: holds {len(reports)} report.json; keep the reports of several runs there")
    return sorted(reports, key=lambda each: str(each[1].run.get("began", "")))


def _is_of_another_kind(path: Path) -> bool:
    """True for whole JSON without results. A report may have been renamed, and cut short when it was copied."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return not isinstance(content, dict) or "results" not in content


def history(reports: Sequence[tuple[Path, Report]], min_effect: float) -> tuple[Run, ...]:
    """Each of ``reports`` with what changed since the one before, and since each latency's last change point."""
    runs: list[Run] = []
    before: Report | None = None
    for path, report in reports:
        changes = None if before is None else diff(before, report, min_effect=min_effect)
        parity = () if changes is None else changes.parity
        latency = () if changes is None else changes.latency
        moved = [one for one in latency or () if one.verdict in {"slower", "faster"}]
        runs.append(
            Run(
                path=str(path),
                began=str(report.run.get("began", "")),
                checks=len(report.results),
                unexpected=len(unexpected(report.results)),
                parity=tuple(one for one in parity if one.worse or one.kind in NOTABLE),
                latency=tuple(moved),
                latencies=dict(_latencies(report)),
                new_machine=latency is None,
            )
        )
        if before is None or latency is None or not has_same_calibration_loop(before, report):
            before = report
        else:
            before = _compared_next(before, report, {(one.case, one.target) for one in moved})
    return tuple(runs)


def _compared_next(before: Report, report: Report, changed: set[Check]) -> Report:
    """What the next report is compared with: ``report`` with the latencies of ``before`` that did not change in it."""
    earlier = {(one.case, one.target): one.latency for one in before.results}

    def result(one: Result) -> Result:
        check = (one.case, one.target)
        latency = None if check in changed else earlier.get(check)
        return one if latency is None else replace(one, latency=latency)

    return replace(report, results=tuple(map(result, report.results)))


def _latencies(report: Report) -> Iterator[tuple[Check, tuple[float, float, float]]]:
    for result in report.results:
        if (median := (result.latency or {}).get("median_us")) is not None:
            low, high = (result.latency or {}).get("low_us"), (result.latency or {}).get("high_us")
            yield (result.case, result.target), (median, low or median, high or median)


def history_lines(runs: Sequence[Run]) -> Iterator[str]:
    """A line for each run, and one for each change below it."""
    for run in runs:
        machine = ", another machine: its latencies are not compared with earlier ones" if run.new_machine else ""
        latencies = f"{len(run.latencies):,} {'latency' if len(run.latencies) == 1 else 'latencies'}"
        counts = f"{count_of(run.checks, 'check')}, {run.unexpected:,} not as expected, {latencies}{machine}"
        yield f"{run.began or 'no date'}  {run.path}: {counts}"
        for change in run.parity:
            outcomes = " -> ".join(filter(None, (change.before, change.after)))
            yield f"  {PARITY_LABELS[change.kind]}: {change.case} on {change.target}: {outcomes}"
        for figure in run.latency:
            at = f" at {figure.shapes}" if figure.shapes else ""
            times = f"{figure.before_us:.4g} -> {figure.after_us:.4g} us, x{figure.ratio:.3g}"
            yield f"  {figure.verdict}: {figure.case} on {figure.target}{at}: {times}"
