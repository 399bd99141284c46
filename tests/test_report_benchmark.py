"""The latencies of a report for Bencher and for github-action-benchmark."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from harness.registry import plugins
from harness.result import Report
from tests.report_samples import ALL, FAILED, LATENCY, PASSED, report

NAME = f"{PASSED.case} on {PASSED.target}"
AT = {**LATENCY, "shapes": "x=4x3", "median_us": 99.0, "low_us": None, "high_us": None, "low_confidence": True}
SHAPED = replace(PASSED, latency={**LATENCY, "shapes": "x=2x3", "by_shape": [{**LATENCY, "shapes": "x=2x3"}, AT]})


def rendered(name: str, made: Report) -> Any:
    return json.loads(plugins("report")[name].render(made))


def test_bencher_gets_nanoseconds_with_their_bounds() -> None:
    assert rendered("bencher", report(PASSED, FAILED)) == {
        NAME: {"latency": {"value": 12340.0, "lower_value": 12000.0, "upper_value": 12600.0}}
    }


def test_github_action_benchmark_gets_a_list_where_smaller_is_better() -> None:
    assert rendered("github-action-benchmark", report(PASSED, FAILED)) == [
        {"name": NAME, "unit": "us", "value": 12.34, "range": "12 to 12.6", "extra": ""}
    ]


def test_each_shape_is_a_benchmark_once_and_says_when_its_confidence_is_low() -> None:
    entries = {entry["name"]: entry for entry in rendered("github-action-benchmark", report(SHAPED))}
    assert entries.keys() == {NAME, f"{NAME} at x=4x3"}
    assert (entries[f"{NAME} at x=4x3"]["range"], entries[f"{NAME} at x=4x3"]["extra"]) == ("", "low confidence")
    assert rendered("bencher", report(SHAPED))[f"{NAME} at x=4x3"] == {"latency": {"value": 99000.0}}


def test_every_sample_renders_and_names_are_unique() -> None:
    timed = [result for result in ALL if result.latency]
    assert (
        len(rendered("bencher", report(*ALL))) == len(rendered("github-action-benchmark", report(*ALL))) == len(timed)
    )
