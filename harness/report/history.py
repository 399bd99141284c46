"""Kept reports in the order of their runs, and the points at which parity or a latency changed.

The rule is that of :mod:`harness.report.diff`. A check's outcome is compared with that of the run before. A latency is
compared with that of its last change point, so that many small steps in one direction become a change too; on another
machine all latencies begin anew. :func:`picture` draws the history as an SVG.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

from harness.errors import Problem, SpecError, UsageError
from harness.report.diff import PARITY_LABELS, ParityChange, diff, has_same_calibration_loop
from harness.report.diff.latency import LatencyChange
from harness.report.json_report import read_report
from harness.report.machines import why_incomplete
from harness.report.wording import unexpected
from harness.result import Report, Result, to_json
from harness.spec.quoting import count_of

NOTABLE = frozenset({"regressed", "mended", "gone", "unverified", "verified"})
"""The kinds of changes of parity that are change points; new checks are, if they are not as expected."""
MOST_FIGURES = 10
"""Latencies that get a panel of their own: those with the most change points."""
GOOD, BAD, LINE, MUTED = "#2a7a4b", "#b3261e", "#1f4e8c", "#6b6b6b"

Series = Sequence[tuple[float, float, float] | None]
Check = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Run:
    """One report: where it is, when its run began (ISO 8601, UTC), its counts, and what changed with it.

    ``latencies`` are medians in microseconds with the bounds of their intervals, by check. ``incomplete`` says why it
    lacks checks, if it was not done to its end.
    """

    path: str
    began: str
    checks: int
    unexpected: int
    parity: tuple[ParityChange, ...]
    latency: tuple[LatencyChange, ...]
    latencies: Mapping[Check, tuple[float, float, float]]
    new_machine: bool = False
    incomplete: str | None = None

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
    """True for whole JSON without a format and results: the file for Model Explorer has results too, as other tools do.

    A report may have been renamed, and cut short when it was copied.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return not isinstance(content, dict) or not {"format", "results"} <= content.keys()


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
                incomplete=why_incomplete(report),
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
        incomplete = f"; not all checks were done: {run.incomplete}" if run.incomplete else ""
        yield f"{run.began or 'no date'}  {run.path}: {counts}{incomplete}"
        for change in run.parity:
            outcomes = " -> ".join(filter(None, (change.before, change.after)))
            yield f"  {PARITY_LABELS[change.kind]}: {change.case} on {change.target}: {outcomes}"
        for figure in run.latency:
            at = f" at {figure.shapes}" if figure.shapes else ""
            times = f"{figure.before_us:.4g} -> {figure.after_us:.4g} us, x{figure.ratio:.3g}"
            yield f"  {figure.verdict}: {figure.case} on {figure.target}{at}: {times}"


WIDTH, LEFT, RIGHT = 960, 70, 20
PANEL, GAP = 110, 46


def picture(runs: Sequence[Run]) -> str:
    """The whole SVG. Every run has the same distance from the next one; its date is at the bottom."""
    panels = [_parity(runs)]
    if len(ratios := _mean_ratios(runs)) > 0:
        panels.append(_line("all latencies, times the first run (geometric mean)", ratios, {}, runs))
    for check in _most_changed(runs):
        series = [run.latencies.get(check) for run in runs]
        panels.append(_line(f"{check[0]} on {check[1]}, us", series, _marks(runs, check), runs))
    height = GAP + len(panels) * (PANEL + GAP) + 20
    body = "".join(
        f'<g transform="translate(0,{GAP + index * (PANEL + GAP)})">{panel}</g>' for index, panel in enumerate(panels)
    )
    dates = "".join(
        _date(_x(index, runs), height - 12, runs[index]) for index in sorted({0, len(runs) // 2, len(runs) - 1})
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12"><title>Parity and latency over time</title>'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>{body}{dates}</svg>\n'
    )


def _parity(runs: Sequence[Run]) -> str:
    """A bar for each run: its checks, and how many of them are not as expected."""
    most = max([run.checks for run in runs] + [1])
    width = min(24.0, (WIDTH - LEFT - RIGHT) / len(runs) * 0.7)
    parts = [_title("checks (red: not as expected)"), _label(0, f"{most:,}"), _label(PANEL, "0")]
    for index, run in enumerate(runs):
        # One check that is not as expected is seen among ten thousand.
        total, bad = PANEL * run.checks / most, max(PANEL * run.unexpected / most, 3.0 if run.unexpected else 0.0)
        x = _x(index, runs) - width / 2
        about = f"{run.began} {run.path}: {run.checks:,} checks, {run.unexpected:,} not as expected"
        parts.append(f"<g><title>{escape(about)}</title>{_bar(x, width, total, GOOD)}{_bar(x, width, bad, BAD)}</g>")
    return "".join(parts)


def _bar(x: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{PANEL - height:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def _line(title: str, series: Series, marks: Mapping[int, str], runs: Sequence[Run]) -> str:
    """The medians as a line with their intervals, and a mark at each change point."""
    values = [bound for point in series if point is not None for bound in point]
    low, high = min(values), max(values)
    margin = (high - low) * 0.1 or abs(high) * 0.05 or 1.0
    low, high = low - margin, high + margin

    def y(value: float) -> float:
        return PANEL * (high - value) / (high - low)

    path, points = "", ""
    for index, point in enumerate(series):
        if point is None or runs[index].new_machine:
            path += " "
        if point is not None:
            x = _x(index, runs)
            path += f"{'L' if path[-1:] not in {'', ' '} else 'M'}{x:.1f},{y(point[0]):.1f}"
            about = f"{runs[index].began} {runs[index].path}: {point[0]:.4g}"
            colour = {"slower": BAD, "faster": GOOD}.get(marks.get(index, ""), LINE)
            radius = 6 if index in marks else 3
            word = f" ({marks[index]})" if index in marks else ""
            points += (
                f'<path d="M{x:.1f},{y(point[1]):.1f}V{y(point[2]):.1f}" stroke="{MUTED}"/>'
                f'<circle cx="{x:.1f}" cy="{y(point[0]):.1f}" r="{radius}" fill="{colour}">'
                f"<title>{escape(about + word)}</title></circle>"
            )
    bounds = _title(title) + _label(0, f"{high:.4g}") + _label(PANEL, f"{low:.4g}")
    return f'{bounds}<path d="{path.strip()}" fill="none" stroke="{LINE}"/>{points}'


def _mean_ratios(runs: Sequence[Run]) -> Series:
    """The geometric mean of each run's latencies over those of the first run on its machine; None without any."""
    first: Mapping[Check, tuple[float, float, float]] = {}
    series: list[tuple[float, float, float] | None] = []
    for run in runs:
        first = run.latencies if run.new_machine or not first else first
        logs = [math.log(run.latencies[check][0] / first[check][0]) for check in run.latencies if check in first]
        mean = math.exp(sum(logs) / len(logs)) if logs else None
        series.append(None if mean is None else (mean, mean, mean))
    return series if any(series) else ()


def _most_changed(runs: Sequence[Run]) -> list[Check]:
    counts = Counter((change.case, change.target) for run in runs for change in run.latency)
    return [check for check, _ in counts.most_common(MOST_FIGURES)]


def _marks(runs: Sequence[Run], check: Check) -> dict[int, str]:
    return {
        index: change.verdict
        for index, run in enumerate(runs)
        for change in run.latency
        if (change.case, change.target) == check
    }


def _x(index: int, runs: Sequence[Run]) -> float:
    return LEFT + (index + 0.5) * (WIDTH - LEFT - RIGHT) / len(runs)


def _date(x: float, y: float, run: Run) -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="middle" fill="{MUTED}">{escape(run.began[:10])}</text>'


def _title(text: str) -> str:
    return f'<text x="{LEFT}" y="-10" font-weight="bold">{escape(text)}</text>'


def _label(y: float, text: str) -> str:
    line = f'<path d="M{LEFT},{y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
    return f'{line}<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="{MUTED}">{escape(text)}</text>'
