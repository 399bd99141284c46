"""Merged reports of several machines: a host and a board side by side, and shards unchanged."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from harness.errors import SpecError
from harness.gate import exit_code_of_merged
from harness.report.json_report import JsonReport
from harness.report.machines import merge
from harness.report.wording import next_step, verdict
from harness.result import NO_LAYER_COMPARED, Layer, Report, Result
from tests.browser import opened, written
from tests.conftest import Call
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


def shard(name: str | None, *results: Result, **run: object) -> tuple[Path, Report]:
    return Path(f"{name or 'all'}.json".replace("/", "-")), Report(HOST, results, {"shard": name, **run})


def of_case(number: int) -> Result:
    return replace(PASSED, case=f"a/{number}")


def test_a_merge_without_all_shards_has_no_verdict_and_names_those_that_are_missing() -> None:
    one = merge([shard("1/2", of_case(1))])
    assert one.run["complaints"] == ["shard 2/2 is missing; merge with the report of each"]
    assert verdict(one).startswith("No verdict: shard 2/2 is missing; ")
    assert exit_code_of_merged(one) == 1
    three = merge([shard("2/4", of_case(2))])
    assert three.run["complaints"] == ["shards 1/4, 3/4, 4/4 are missing; merge with the report of each"]
    assert len(merge([shard("2/999999999", of_case(2))]).run["complaints"]) == 1


def test_shards_may_be_merged_in_steps() -> None:
    step = merge([shard("1/3", of_case(1)), shard("3/3", of_case(3))])
    assert exit_code_of_merged(step) == 1
    whole = merge([(Path("step.json"), step), shard("2/3", of_case(2))])
    assert (whole.run["complaints"], exit_code_of_merged(whole)) == ([], 0)
    assert exit_code_of_merged(merge([shard("1/2", of_case(1)), shard("2/2", of_case(2))])) == 0


def test_each_of_two_machines_needs_all_its_shards() -> None:
    host = [shard("1/2", of_case(1)), shard("2/2", of_case(2))]
    board = [(path.with_stem(f"board-{path.stem}"), replace(made, environment=BOARD)) for path, made in host]
    assert exit_code_of_merged(merge([*host, *board])) == 0
    lacking = merge([*host, board[0]])
    assert lacking.run["complaints"] == ["shard 2/2 is missing; merge with the report of each"]


def test_a_merge_with_an_interrupted_shard_exits_as_an_interrupted_run_and_names_it() -> None:
    stopped = shard("2/2", of_case(2), interrupted=True, interrupted_by="SIGTERM")
    made = merge([shard("1/2", of_case(1)), stopped])
    assert verdict(made).startswith("No verdict: 2-2.json: the run was interrupted by SIGTERM; continue it with ")
    assert exit_code_of_merged(made) == 128 + 15
    again = merge([(Path("whole.json"), made), (Path("other.json"), Report(HOST, (FAILED,)))])
    assert again.run["complaints"] == made.run["complaints"]
    assert exit_code_of_merged(again) == 128 + 15
    unknown = shard(None, of_case(1), interrupted=True, interrupted_by="SIGNOTHING")
    assert exit_code_of_merged(merge([unknown])) == 1


def test_a_merge_exits_3_if_a_required_runtime_was_missing_and_1_if_a_check_failed() -> None:
    complaint = "required runtime trt is not available"
    required = shard(None, of_case(1), complaints=[complaint])
    assert exit_code_of_merged(merge([required])) == 3
    assert exit_code_of_merged(merge([required, shard(None, FAILED)])) == 1


def test_layers_that_one_shard_compared_were_compared() -> None:
    complaint = f"{NO_LAYER_COMPARED}a/1 on trace/torch-cpu: the model is stochastic"
    without = shard("1/2", of_case(1), layers=True, complaints=[complaint])
    others = [shard("2/2", replace(of_case(2), layers=layers)) for layers in ((), (Layer("a", "ReLU", 0, local=0.0),))]
    lacking, whole = (merge([without, other]) for other in others)
    assert (lacking.run["complaints"], exit_code_of_merged(lacking)) == ([complaint], 1)
    assert (whole.run["complaints"], exit_code_of_merged(whole)) == ([], 0)


def test_commands_that_read_a_report_say_that_its_run_was_interrupted(harness: Call, here: Path) -> None:
    (here / "kept").mkdir()
    for name, by in (("kept/whole.json", None), ("kept/part.json", "SIGTERM")):
        made = Report(HOST, (PASSED,), {"interrupted": by is not None, "interrupted_by": by, "paths": ["specs"]})
        (here / name).write_text(JsonReport().render(made), encoding="utf-8")
    said = "kept/part.json: not all checks were done: the run was interrupted by SIGTERM"
    assert said in harness("diff", "kept/whole.json", "kept/part.json").err
    assert said not in harness("diff", "kept/whole.json", "kept/whole.json").err
    assert said in harness("explain", "--last", "--report", "kept/part.json").err
    assert said in harness("known-failures", "update", "kept/part.json").err
    assert "not all checks were done: the run was interrupted by SIGTERM" in harness("history", "kept").out
    assert harness("merge", "kept/part.json", "-o", "whole").code == 128 + 15


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
