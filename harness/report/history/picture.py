"""The picture of a history: an SVG with the checks of each run, all latencies together, and those that changed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from harness.report.history import Check, Run

WIDTH, LEFT, RIGHT = 960, 70, 20
PANEL, GAP = 110, 46
MOST_FIGURES = 10
"""Latencies that get a panel of their own: those with the most change points."""
GOOD, BAD, LINE, MUTED = "#2a7a4b", "#b3261e", "#1f4e8c", "#6b6b6b"

Series = Sequence[tuple[float, float, float] | None]


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
