"""Latency on the terminal: median, interval and ratio of each check, or of each target where there are many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import geometric_mean

from harness.report.tables import targets
from harness.report.wording import format_microseconds
from harness.result import Result

SHOWN = 12
"""Up to so many timed checks have a line each."""


def latency_lines(results: Sequence[Result]) -> Iterator[str]:
    """The lines; none if nothing was timed."""
    timed = [result for result in results if result.latency and "median_us" in result.latency]
    if not timed:
        return
    if len(timed) <= SHOWN:
        yield "latency (median, 95 % interval, ratio to eager torch)"
        yield from map(_line, timed)
        return
    yield f"latency of {len(timed):,} checks, as a ratio to eager torch (geometric mean, lowest and highest)"
    for target in targets(timed):
        figures = [result.latency for result in timed if result.target == target and result.latency]
        ratios = [figure["ratio"] for figure in figures if figure.get("ratio")]
        if ratios:
            low, mean, high = min(ratios), geometric_mean(ratios), max(ratios)
            yield f"  {target}: {mean:.2g}x ({low:.2g}x to {high:.2g}x), {len(figures):,} checks"


def _line(result: Result) -> str:
    figure = result.latency or {}
    low, high, ratio = figure.get("low_us"), figure.get("high_us"), figure.get("ratio")
    interval = "" if low is None or high is None else f" [{format_microseconds(low)}, {format_microseconds(high)}]"
    times = "" if ratio is None else f", {ratio:.2g}x"
    unsure = ", low confidence" if figure.get("low_confidence") else ""
    return f"  {result.case} on {result.target}: {format_microseconds(figure['median_us'])}{interval}{times}{unsure}"
