"""Merged reports of several machines: a host and a board side by side, and shards unchanged."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from harness.errors import SpecError
from harness.report.machines import merge
from harness.report.wording import next_step
from harness.result import Report, Result
from tests.browser import opened, written
from tests.report_samples import FAILED, LATENCY, PASSED

HOST: dict[str, Any] = {"cpu": {"model": "Ryzen 7", "cores": 8, "mhz": 3400}, "packages": {"onnxruntime": "1.32.0"}}
BOARD: dict[str, Any] = HOST | {"board": "Raspberry Pi 5", "cpu": {"model": "Cortex-A76", "cores": 4, "mhz": 2400}}


MEDIAN, LOW, HIGH = 12.34, 12.0, 12.6
"""The latency of the sample, in microseconds."""


def timed(result: Result, factor: float) -> Result:
    slower = {"median_us": MEDIAN * factor, "low_us": LOW * factor, "high_us": HIGH * factor}
    return replace(result, latency=LATENCY | slower | {"low_confidence": False})


def joined(*environments: dict[str, Any]) -> Report:
    """The same two checks on each machine; the second machine takes four times as long."""
    reports = [
        Report(environment, (timed(PASSED, factor), FAILED))
        for environment, factor in zip(environments, (1.0, 4.0), strict=True)
    ]
    return merge([(Path(f"{number}.json"), report) for number, report in enumerate(reports)])


def test_the_same_check_on_two_machines_has_its_machine_in_the_target() -> None:
    made = joined(HOST, BOARD)
    assert [result.target for result in made.results if result.case == PASSED.case] == [
        f"{PASSED.target} on Ryzen 7",
        f"{PASSED.target} on Raspberry Pi 5",
    ]
    assert made.run["machines"] == ["Ryzen 7", "Raspberry Pi 5"]
    assert made.summary["failed"] == 2


def test_machines_that_are_called_the_same_are_numbered() -> None:
    newer = HOST | {"packages": {"onnxruntime": "1.33.0"}}
    assert joined(HOST, newer).run["machines"] == ["Ryzen 7", "Ryzen 7 (2)"]


def test_a_check_done_twice_on_one_machine_is_refused_whatever_its_clock() -> None:
    hotter = HOST | {"cpu": {**HOST["cpu"], "mhz": 2100}}
    with pytest.raises(SpecError) as caught:
        joined(HOST, hotter)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("1.json: ")
    assert "checks were done on the same machine in 0.json too, such as " in line
    assert line.endswith("; to compare two runs: harness diff 0.json 1.json")


def test_every_report_that_repeats_checks_is_named_at_once() -> None:
    other = replace(PASSED, case="a/b")
    held = ((PASSED, FAILED), (PASSED, other), (other, FAILED))
    with pytest.raises(SpecError) as caught:
        merge([(Path(f"{number}.json"), Report(HOST, results)) for number, results in enumerate(held)])
    second, third = str(caught.value).splitlines()
    assert second.startswith("1.json: 1 of its 2 checks was done on the same machine in 0.json too")
    assert third.startswith("2.json: 2 of its 2 checks were done on the same machine in 1.json too")


def test_a_check_on_only_one_machine_keeps_its_target() -> None:
    made = merge([(Path("a.json"), Report(HOST, (PASSED,))), (Path("b.json"), Report(BOARD, (FAILED,)))])
    assert [result.target for result in made.results] == [PASSED.target, FAILED.target]
    assert "machines" not in made.run


def test_the_next_step_names_the_target_alone() -> None:
    (host, _) = (result for result in joined(HOST, BOARD).results if result.status == "failed")
    step = next_step(host)
    assert step is not None
    assert step.command == f"harness explain {FAILED.case} --target {FAILED.target}"


def test_the_page_draws_how_many_times_as_long_the_board_takes(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, written(joined(HOST, BOARD), tmp_path)) as page:
        expect(page.get_by_role("heading", name="Ratio to Ryzen 7")).to_be_visible()
        chart = page.get_by_role("table", name="Ratio to Ryzen 7")
        expect(chart.get_by_role("cell", name="4x", exact=True)).to_be_visible()
        (dot,) = chart.get_by_role("link").all()
        label = dot.get_attribute("aria-label") or ""
        assert re.findall(r"[\d.]+x", label) == [f"{4 * value:.2g}x" for value in (1, LOW / HIGH, HIGH / LOW)]
        dot.click()
        expect(page.get_by_role("dialog")).to_contain_text("Raspberry Pi 5")
