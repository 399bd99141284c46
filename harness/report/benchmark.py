"""Latencies for services that draw them over time: Bencher, and github-action-benchmark.

Each check that was timed is a benchmark with its median and the bounds of its 95 % interval. Statuses are not in these
files: a service that watches latencies is no gate for correctness, which is the exit code's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from harness.result import Report


class BencherReport:
    """Bencher Metric Format: ``{name: {"latency": {"value", "lower_value", "upper_value"}}}``, in nanoseconds.

    See https://bencher.dev/docs/reference/bencher-metric-format/; ``latency`` is a built-in measure of Bencher.
    """

    name = "bencher"
    suffix = ".bencher.json"

    def render(self, report: Report) -> str:
        """The whole report as text."""
        metrics = {name: {"latency": dict(_bencher_metric(figure))} for name, figure in _figures(report)}
        return json.dumps(metrics, indent=1) + "\n"


class ActionReport:
    """The JSON for the tool ``customSmallerIsBetter`` of github-action-benchmark: named values in microseconds.

    See https://github.com/benchmark-action/github-action-benchmark#examples.
    """

    name = "github-action-benchmark"
    suffix = ".benchmark.json"

    def render(self, report: Report) -> str:
        """The whole report as text."""
        return json.dumps([_entry(name, figure) for name, figure in _figures(report)], indent=1) + "\n"


PROVIDES = (BencherReport(), ActionReport())


def _figures(report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each figure with its name: the check, and the shapes for those at ``bench`` shapes."""
    for result in report.results:
        first = result.latency or {}
        by_shapes = {figure.get("shapes", ""): figure for figure in (*first.get("by_shape", ()), first)}
        for shapes, figure in by_shapes.items():
            if figure.get("median_us") is not None:
                at = "" if figure is first else f" at {shapes}"
                yield f"{result.case} on {result.target}{at}", figure


def _bencher_metric(figure: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for key, name in (("median_us", "value"), ("low_us", "lower_value"), ("high_us", "upper_value")):
        if figure.get(key) is not None:
            yield name, 1000 * figure[key]


def _entry(name: str, figure: dict[str, Any]) -> dict[str, Any]:
    low, high = figure.get("low_us"), figure.get("high_us")
    interval = "" if low is None or high is None else f"{low:.4g} to {high:.4g}"
    extra = "low confidence" if figure.get("low_confidence") else ""
    return {"name": name, "unit": "us", "value": figure["median_us"], "range": interval, "extra": extra}
