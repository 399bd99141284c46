"""``harness history``: kept reports in order, with the points at which parity or a latency changed, and a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from harness.registry import plugins
from harness.report import write
from harness.report.history import history, picture
from harness.report.json_report import JsonReport
from harness.result import Report, Result
from tests.conftest import Call
from tests.report_samples import FAILED, PASSED
from tests.test_diff import figure, report, timed

SVG = "{http://www.w3.org/2000/svg}"
BROKEN = replace(FAILED, case=PASSED.case, target=PASSED.target)


def on(day: int, made: Report) -> tuple[Path, Report]:
    return Path(f"{day}/report.json"), replace(made, run={"began": f"2026-11-{day:02}T10:00:00Z"})


def days(*results: Result, **environment: object) -> list[tuple[Path, Report]]:
    return [on(day, report(result, **environment)) for day, result in enumerate(results, 1)]


def test_each_run_has_its_changes_since_the_one_before() -> None:
    first, second, third, fourth = history(days(PASSED, BROKEN, BROKEN, PASSED), 0.03)
    assert [(run.checks, run.unexpected) for run in (first, second, third, fourth)] == [(1, 0), (1, 1), (1, 1), (1, 0)]
    assert [change.kind for change in second.parity] == ["regressed"]
    assert (first.parity, third.parity) == ((), ())
    assert [change.kind for change in fourth.parity] == ["mended"]


def test_a_new_check_is_a_change_only_if_it_fails_and_a_lost_one_always() -> None:
    runs = history([on(1, report()), on(2, report(PASSED)), on(3, report(PASSED, FAILED)), on(4, report(PASSED))], 0.03)
    assert [[change.kind for change in run.parity] for run in runs] == [[], [], ["new"], ["gone"]]


def test_many_small_steps_are_a_change_point_and_the_next_one_begins_there() -> None:
    made = days(*(timed(figure(1.02**step, seed=step)) for step in range(5)))
    assert [[change.verdict for change in run.latency] for run in history(made, 0.03)] == [
        [], [], ["slower"], [], ["slower"],
    ]  # fmt: skip
    assert not any(run.latency for run in history(made, 0.2))


def test_another_machine_begins_anew() -> None:
    slower = report(timed(figure(2.0, seed=1)), machine="aarch64")
    runs = history([on(1, report(timed(figure()))), on(2, slower), on(3, slower)], 0.03)
    assert [run.new_machine for run in runs] == [False, True, False]
    assert not any(run.latency for run in runs)


def test_the_picture_has_a_panel_for_parity_one_for_all_latencies_and_one_for_each_that_changed() -> None:
    made = days(timed(figure()), timed(figure(1.1, seed=1), status="failed"), timed(figure(1.1, seed=2)))
    odd = [
        (path, replace(each, results=tuple(replace(one, case="<b>&") for one in each.results))) for path, each in made
    ]
    root = ET.fromstring(picture(history(odd, 0.03)))
    titles = [element.text for element in root.iter(f"{SVG}text") if element.get("font-weight")]
    assert titles == [
        "checks (red: not as expected)",
        "all latencies, times the first run (geometric mean)",
        "<b>& on trace/torch-cpu, us",
    ]
    bars = [float(bar.get("height", 0)) for bar in root.iter(f"{SVG}rect") if bar.get("fill") == "#b3261e"]
    assert [height > 0 for height in bars] == [False, True, False]
    marked = [dot for dot in root.iter(f"{SVG}circle") if dot.get("r") == "6"]
    assert [(dot.find(f"{SVG}title").text or "")[-8:] for dot in marked] == ["(slower)"]  # type: ignore[union-attr]


def test_a_history_without_latencies_draws_parity_alone() -> None:
    untimed = replace(PASSED, latency=None)
    root = ET.fromstring(picture(history(days(untimed, untimed), 0.03)))
    assert [text.text for text in root.iter(f"{SVG}text") if text.get("font-weight")] == [
        "checks (red: not as expected)"
    ]


@pytest.fixture
def kept(here: Path) -> Callable[[int, Report], None]:
    def keep(day: int, made: Report) -> None:
        path, dated = on(day, made)
        (here / "kept" / path).parent.mkdir(parents=True)
        (here / "kept" / path).write_text(JsonReport().render(dated), encoding="utf-8")

    return keep


def test_the_command_prints_the_runs_in_order_and_writes_the_picture(
    harness: Call, kept: Callable[[int, Report], None], here: Path
) -> None:
    kept(2, report(BROKEN))
    kept(1, report(PASSED))
    (here / "kept" / "other.json").write_text("{}", encoding="utf-8")
    ran = harness("history", "kept")
    assert ran.code == 0
    assert [line[:30] for line in ran.out.splitlines() if line.startswith("2026")] == [
        "2026-11-01T10:00:00Z  kept/1/r",
        "2026-11-02T10:00:00Z  kept/2/r",
    ]
    assert f"  regressed: {PASSED.case} on {PASSED.target}: passed -> failed, compare: mismatch" in ran.out
    assert ET.parse(here / "kept/history.svg").getroot().tag == f"{SVG}svg"
    listed = json.loads(harness("history", "kept", "--json").out)
    assert [run["unexpected"] for run in listed] == [0, 1]
    assert listed[1]["parity"][0]["kind"] == "regressed"


def test_one_report_is_no_history_and_a_damaged_one_is_refused(
    harness: Call, kept: Callable[[int, Report], None], here: Path
) -> None:
    kept(1, report(PASSED))
    ran = harness("history", "kept")
    assert (ran.code, ran.err) == (2, "kept: holds 1 report.json; keep the reports of several runs there\n")
    kept(2, report(PASSED))
    (here / "kept/2/report.json").write_text("{", encoding="utf-8")
    ran = harness("history", "kept")
    assert (ran.code, ran.err.startswith("kept/2/report.json:1:2: ")) == (2, True)
    assert harness("history", "nowhere").code == 2


def test_files_of_other_formats_beside_the_reports_are_left_out(
    harness: Call, kept: Callable[[int, Report], None], here: Path
) -> None:
    for day in (1, 2):
        kept(day, report(PASSED))
        write(report(PASSED), here / f"kept/{day}", plugins("report"))
    (here / "kept/hyperfine.json").write_text('{"results": [{"mean": 1.0}]}', encoding="utf-8")
    assert len(list((here / "kept/1").glob("*.json"))) > 3, "each format that is JSON"
    ran = harness("history", "kept", "--json")
    assert (ran.code, len(json.loads(ran.out))) == (0, 2), ran.err


def test_every_damaged_report_is_named_also_one_that_was_renamed(
    harness: Call, kept: Callable[[int, Report], None], here: Path
) -> None:
    for day in (1, 2, 3, 4):
        kept(day, report(PASSED))
    whole = (here / "kept/3/report.json").read_text("utf-8")
    (here / "kept/3/report.json").rename(here / "kept/3/monday.json")
    (here / "kept/3/monday.json").write_text(whole[: len(whole) // 2], encoding="utf-8")
    (here / "kept/4/report.json").rename(here / "kept/4/tuesday.json")
    (here / "kept/4/tuesday.json").write_text(json.dumps({**json.loads(whole), "results": 1}), encoding="utf-8")
    (here / "kept/notes.json").write_text("[1]", encoding="utf-8")
    ran = harness("history", "kept")
    assert ran.code == 2
    first, second = ran.err.splitlines()
    assert first.startswith("kept/3/monday.json:")
    assert second.startswith("kept/4/tuesday.json:1:1: not a harness report: it has no list of `results`; ")
