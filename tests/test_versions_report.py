"""The report on versions shows each environment's result, and the reason for a failed one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.versions.environments import ENVIRONMENTS, ROOT, Environment, lowest
from benchmarks.versions.outcome import Outcome, read_outcomes, write_outcomes
from benchmarks.versions.report import markdown

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="right"/>
<testcase classname="tests.test_a" name="left_out"><skipped message="why"/></testcase>
{more}
</testsuite></testsuites>"""
FAILED = (
    '<testcase classname="tests.test_a" name="wrong[x]"><failure message="assert 1&#10; == 2">text</failure></testcase>'
)
GREEN = Outcome("lowest", "2026-11-01", "3.11.7", {"torch": "2.9.0"}, {"passed": 3, "known": 1}, (), {"passed": 5})


def row(case: str, status: str, target: str = "trace/torch-cpu") -> dict[str, Any]:
    return {"case": case, "target": target, "status": status, "message": None if status == "fixed" else "it is | off"}


def report(path: Path, *rows: dict[str, Any], complaints: tuple[str, ...] = ()) -> Path:
    path.write_text(json.dumps({"results": rows, "run": {"complaints": complaints}}), encoding="utf-8")
    return path


def line_of(outcome: Outcome) -> str:
    (line,) = [line for line in markdown({"lowest": outcome}).splitlines() if line.startswith("| lowest")]
    return line


def test_what_passed_or_is_known_is_green(tmp_path: Path) -> None:
    bare = Outcome("lowest", "2026-11-01")
    ran = bare.with_checks(report(tmp_path / "r.json", row("a", "passed"), row("b", "known")))
    (tmp_path / "t.xml").write_text(JUNIT.format(more=""), encoding="utf-8")
    assert not ran.green, "no test was run"
    assert ran.with_tests(tmp_path / "t.xml").green
    assert "| green" in line_of(GREEN)


@pytest.mark.parametrize("status", ["failed", "error", "fixed", "skipped"])
def test_an_unexpected_check_is_red_and_listed(tmp_path: Path, status: str) -> None:
    rows = [row("a", "passed"), row("b", status), row("c", status), row("d", status, "script/torch-cpu")]
    ran = GREEN.with_checks(report(tmp_path / "r.json", *rows))
    assert not ran.green
    assert "**red**" in line_of(ran)
    text = markdown({"lowest": ran})
    assert f"- 2 {status} on trace/torch-cpu, first b: " in text
    assert f"- 1 {status} on script/torch-cpu, first d: " in text


@pytest.mark.parametrize(
    "red",
    [
        replace(GREEN, trouble="could not be tried"),
        replace(GREEN, checks={}),
        replace(GREEN, tests={"skipped": 4}),
        replace(GREEN, failing=("tests/a.py::b: c",)),
        replace(GREEN, unexpected=("an entry matches nothing",)),
    ],
)
def test_nothing_is_green_by_saying_nothing(red: Outcome) -> None:
    assert not red.green
    assert "## lowest" in markdown({"lowest": red})
    assert "## lowest" not in markdown({"lowest": GREEN})


def test_what_was_run_in_part_is_neither_green_nor_red() -> None:
    part = replace(GREEN, tests=None, trouble="the tests were not run")
    assert "| in part" in line_of(part)
    assert "the tests were not run" in markdown({"lowest": part})
    assert "**red**" in line_of(replace(part, unexpected=("1 failed",)))


def test_an_entry_of_the_list_that_matches_nothing_is_red(tmp_path: Path) -> None:
    assert not GREEN.with_checks(report(tmp_path / "r.json", row("a", "passed"), complaints=("k.yaml:1: none",))).green


def test_tests_are_counted_and_failing_ones_named(tmp_path: Path) -> None:
    (tmp_path / "t.xml").write_text(JUNIT.format(more=FAILED), encoding="utf-8")
    ran = GREEN.with_tests(tmp_path / "t.xml")
    assert ran.tests == {"passed": 1, "skipped": 1, "failed": 1}
    assert ran.failing == ("tests/test_a.py::wrong[x]: assert 1 == 2",)
    assert not ran.green


def test_a_bundle_is_compared_with_where_it_was_packed(tmp_path: Path) -> None:
    host = report(tmp_path / "host.json", row("a", "passed"), row("b", "known"), row("c", "passed"))
    board = report(tmp_path / "board.json", row("a", "passed"), row("b", "failed"))
    notes = GREEN.with_comparison(board, host).notes
    assert notes[0].startswith("1 of 3 checks")
    assert notes[1] == "known there, failed here: b on trace/torch-cpu"


def test_outcomes_are_read_as_they_were_written(tmp_path: Path) -> None:
    (tmp_path / "t.xml").write_text(JUNIT.format(more=FAILED), encoding="utf-8")
    ran = GREEN.with_checks(report(tmp_path / "r.json", row("a", "failed"))).with_tests(tmp_path / "t.xml")
    outcomes = {"lowest": replace(ran, notes=("40 MiB",)), "newest": Outcome("newest", "2026-11-02", trouble="no")}
    write_outcomes(tmp_path / "o.jsonl", outcomes)
    assert read_outcomes(tmp_path / "o.jsonl") == outcomes
    assert len((tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_an_environment_without_a_run_is_marked_as_not_tried() -> None:
    assert markdown({}).count("not run") == len(ENVIRONMENTS)


def test_constraints_are_the_tested_versions_but_for_the_pin() -> None:
    plain, pinned = (Environment("x", pins=pins).constraints().splitlines() for pins in ({}, {"onnx": "1.18.0"}))
    assert set(pinned) - set(plain) == {"onnx==1.18.0"}
    assert {line.partition("==")[0] for line in plain} == {line.partition("==")[0] for line in pinned}
    older = Environment("x", python="3.10").constraints().splitlines()
    assert sum(line.startswith("numpy==") for line in older) == 1
    assert set(older) != set(plain), "Python 3.10 has other builds"
    assert Environment("x", base="lowest").constraints().splitlines() == [
        f"{n}=={v}" for n, v in sorted(lowest().items())
    ]


def test_every_environment_is_tried_every_night() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "versions.yml").read_text(encoding="utf-8"))
    # YAML 1.1 reads the key `on` as true.
    assert workflow[True]["schedule"]
    assert workflow[True].keys() == {"schedule", "workflow_dispatch"}
    tried = workflow["jobs"]["try"]
    assert tried["strategy"]["matrix"]["name"] == "${{ fromJSON(needs.environments.outputs.names) }}"
    pythons = {version for step in tried["steps"] for version in step.get("with", {}).get("python-version", "").split()}
    assert {environment.python for environment in ENVIRONMENTS} <= pythons
