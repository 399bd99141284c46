"""Comparing two reports lists every regression, and only regressions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from harness.report.diff import Diff, diff, verdict_of
from harness.report.diff.text import SHOWN, show_diff
from harness.report.json_report import JsonReport, read_report
from harness.result import Report, Result, Status
from tests.conftest import Call
from tests.report_samples import AGREES, DIFFERS, ERROR, FAILED, FIXED, KNOWN, PASSED, SKIPPED

MACHINE = {
    "machine": "x86_64",
    "cpu": {"model": "A", "cores": 2, "threads": 2, "usable": 2, "mhz": 3000},
    "gpus": [],
    "packages": {"numpy": "2.0", "onnxruntime": "1.32.0"},
}


def figure(
    factor: float = 1.0, seed: int = 0, processes: int = 20, spread: float = 0.005, **more: Any
) -> dict[str, Any]:
    """Return the latency that ``harness bench`` writes for a call of 1 ms times ``factor``."""
    rng = np.random.default_rng(seed)
    level = rng.lognormal(0, spread, processes)
    samples = [(1000 * factor * one * rng.lognormal(0, spread, 10)).tolist() for one in level]
    return {
        "shapes": "x=[2,3]",
        "median_us": float(np.median(samples)),
        "low_confidence": False,
        "samples_us": samples,
        "interrupted": [[] for _ in samples],
        "calibration_us": [[40.0] * 10 for _ in samples],
        "threads": 1,
        "device": "cpu",
        **more,
    }


def timed(latency: dict[str, Any] | None, case: str = "a/b", status: Status = "passed") -> Result:
    return Result(case, "trace/torch-cpu", status, outputs=(AGREES,), latency=latency)


def report(*results: Result, **changed: Any) -> Report:
    return Report({**MACHINE, **changed}, results)


def only(old: dict[str, Any], new: dict[str, Any], **options: Any) -> Any:
    (change,) = diff(report(timed(old)), report(timed(new)), **options).latency or ()
    return change


# Parity


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (PASSED, FAILED, "regressed"),
        (PASSED, ERROR, "regressed"),
        (KNOWN, FAILED, "regressed"),
        (SKIPPED, FAILED, "regressed"),
        (FIXED, FAILED, "regressed"),
        (FAILED, PASSED, "mended"),
        (ERROR, KNOWN, "mended"),
        (KNOWN, PASSED, "mended"),
        (FAILED, FIXED, "mended"),
        (FAILED, ERROR, "otherwise"),
        (KNOWN, FIXED, "otherwise"),
        (PASSED, KNOWN, "otherwise"),
        (PASSED, SKIPPED, "unverified"),
        (SKIPPED, PASSED, "verified"),
        (None, PASSED, "new"),
        (None, FIXED, "new"),
    ],
)
def test_every_change_of_a_check_has_its_word(before: Result | None, after: Result | None, kind: str) -> None:
    old, new = (report(*([replace(one, case="c", target="t")] if one else [])) for one in (before, after))
    (change,) = diff(old, new).parity
    assert change.kind == kind
    assert change.worse == (kind == "regressed")


def test_a_new_check_that_fails_is_new_and_a_regression() -> None:
    comparison = diff(report(PASSED), report(PASSED, FAILED))
    (change,) = comparison.parity
    assert (change.kind, change.worse) == ("new", True)
    assert verdict_of(comparison) == "Regressed: 1 new and not as expected."


def test_a_new_check_that_passes_and_one_that_was_mended_are_no_regressions() -> None:
    comparison = diff(report(FAILED), report(replace(PASSED, case=FAILED.case, target=FAILED.target), SKIPPED))
    assert {change.kind for change in comparison.parity} == {"new", "mended"}
    assert not any(change.worse for change in comparison.parity)


def test_a_lost_check_is_a_regression_unless_checks_may_be_missing() -> None:
    lost, allowed = (diff(report(PASSED, KNOWN), report(KNOWN), allow_missing=allow) for allow in (False, True))
    assert [(change.kind, change.worse) for each in (lost, allowed) for change in each.parity] == [
        ("gone", True),
        ("gone", False),
    ]
    assert verdict_of(lost) == "Regressed: 1 lost."
    assert verdict_of(allowed) == "No regression."


@pytest.mark.parametrize("same", [PASSED, FAILED, ERROR, KNOWN, FIXED, SKIPPED])
def test_an_unchanged_check_is_not_listed(same: Result) -> None:
    comparison = diff(report(same), report(replace(same, seconds={"export": 9.0}, log=("other",))))
    assert comparison.parity == ()
    assert comparison.regressions == ()
    assert verdict_of(comparison) == "No regression."


def test_a_larger_error_within_the_tolerance_is_listed_and_is_no_regression() -> None:
    further = replace(PASSED, outputs=(replace(AGREES, max_abs=1e-7, max_ulp=1),))
    (change,) = diff(report(PASSED), report(further)).parity
    assert (change.kind, change.worse) == ("numbers", False)
    assert "1 ulp" in change.after


def test_another_number_of_mismatches_is_listed() -> None:
    worse = replace(FAILED, outputs=(replace(DIFFERS, mismatched=4),))
    (change,) = diff(report(FAILED), report(worse)).parity
    assert change.kind == "numbers"


# Latency


def test_a_slowdown_is_a_regression_and_its_opposite_is_not() -> None:
    slower = diff(report(timed(figure())), report(timed(figure(1.1, seed=1))))
    assert [change.verdict for change in slower.latency or ()] == ["slower"]
    assert verdict_of(slower) == "Regressed: 1 slower."
    faster = diff(report(timed(figure(1.1, seed=1))), report(timed(figure())))
    assert [change.verdict for change in faster.latency or ()] == ["faster"]
    assert not faster.regressions


def test_the_caller_sets_the_smallest_effect() -> None:
    assert only(figure(), figure(1.1, seed=1)).verdict == "slower"
    assert only(figure(), figure(1.1, seed=1), min_effect=0.2).verdict == "no change"


def test_equals_are_no_change() -> None:
    change = only(figure(), figure(seed=1))
    assert change.verdict == "no change"
    assert change.low < 1 < change.high


def test_noise_makes_a_change_inconclusive_with_a_reason() -> None:
    change = only(figure(spread=0.2), figure(1.1, seed=1, spread=0.2))
    assert change.verdict == "inconclusive"
    assert change.why
    few = only(figure(processes=3), figure(1.1, seed=1, processes=3))
    assert few.more_rounds == 20


def test_disturbed_samples_do_not_count() -> None:
    new = figure(seed=1)
    for samples in new["samples_us"]:
        samples[:6] = [1.5 * one for one in samples[:6]]  # six of ten rounds beside a neighbour
    assert only(figure(), new).verdict == "no change"
    slowed = {**new, "samples_us": [[1.1 * one for one in samples] for samples in new["samples_us"]]}
    assert only(figure(), slowed).verdict == "slower"


def test_the_listed_times_are_the_compared_ones() -> None:
    change = only(figure(), figure(1.1, seed=1))
    assert change.after_us / change.before_us == pytest.approx(change.ratio, rel=0.01)
    assert change.before_us < figure()["median_us"], "the undisturbed_time samples of each process"


def test_a_machine_that_became_slower_decides_nothing() -> None:
    busy = figure(1.5, seed=1, calibration_us=[[60.0 + at] * 10 for at in range(20)])
    change = only(figure(), busy)
    assert change.verdict == "inconclusive"
    assert "the machine's own speed changed" in change.why


@pytest.mark.parametrize(
    ("key", "value"), [("threads", 2), ("precision", "bfloat16"), ("cpus", [1]), ("iobinding", "off")]
)
def test_figures_of_different_conditions_are_not_compared(key: str, value: Any) -> None:
    change = only(figure(), figure(1.5, **{key: value}))
    assert change.verdict == "not comparable"
    assert change.ratio == pytest.approx(1.5)
    assert change.after_us / change.before_us == pytest.approx(1.5)
    assert key in change.why


def test_another_version_of_a_runtime_is_what_one_wants_to_compare() -> None:
    assert only(figure(version="onnxruntime 1.31"), figure(1.1, seed=1, version="onnxruntime 1.32")).verdict == "slower"


def test_a_figure_of_low_confidence_is_no_regression() -> None:
    change = only(figure(), figure(1.5, seed=1, low_confidence=True, notes=["the CPU was throttled for heat"]))
    assert (change.verdict, change.why) == ("inconclusive", "the CPU was throttled for heat")


def test_a_figure_that_says_nothing_of_its_confidence_counts() -> None:
    old, new = (
        {key: value for key, value in one.items() if key != "low_confidence"} for one in (figure(), figure(1.5, 1))
    )
    assert only(old, new).verdict == "slower"


def test_figures_at_bench_shapes_are_compared_too_each_once() -> None:
    def whole(factor: float) -> dict[str, Any]:
        base = figure()
        first = {key: value for key, value in base.items() if "_us" not in key or key == "median_us"}
        large = {key: item for key, item in figure(factor, seed=2).items() if key not in {"threads", "device"}}
        return {**base, "by_shape": [first, {**large, "shapes": "x=[64,3]"}]}

    changes = diff(report(timed(whole(1.0))), report(timed(whole(1.2)))).latency
    assert [(one.shapes, one.verdict) for one in changes or ()] == [("x=[2,3]", "no change"), ("x=[64,3]", "slower")]


def test_one_process_is_no_measure_of_itself() -> None:
    quick = figure(processes=1)
    assert only(quick, figure(3.0, seed=1, processes=1)).verdict == "not comparable"
    assert "one process" in only(quick, figure(seed=1)).why


def test_many_single_processes_measure_the_noise_by_their_calibration() -> None:
    """Quick figures of a run: a slowdown larger than all noise of the calibration loop counts as slower."""

    def quick(at: int, factor: float, seed: int) -> Result:
        latency = figure(factor, seed=seed, processes=1)
        rng = np.random.default_rng(seed)
        latency["samples_us"] = [(1000 * factor * rng.lognormal(0, 0.01, 40)).tolist()]
        latency["calibration_us"] = [[40.0 * (1 + at % 5 / 100)] * 40]
        return timed(latency, case=f"a/{at}")

    old = report(*(quick(at, 1.0, at) for at in range(30)))
    new = report(*(quick(at, 2.0 if at == 7 else 1.0, 100 + at) for at in range(30)))
    comparison = diff(old, new)
    assert [change.case for change in comparison.latency or () if change.verdict == "slower"] == ["a/7"]
    assert len(comparison.regressions) == 1


def single(factor: float, at: int, seed: int, calibration: float | None = 40.0) -> Result:
    """A figure of one process of ten rounds."""
    times = [] if calibration is None else [calibration] * 10
    return timed(figure(factor, seed=seed, processes=1, spread=0.001, calibration_us=[times]), case=f"a/{at}")


def singles(factor: float, pairs: int, slowest: float = 44.0, samples: Any = None, **first: Any) -> Any:
    """The change of the last of ``pairs`` figures, whose calibration was the slowest before and after.

    ``samples`` are those of the last figure after the change.
    """
    sides = []
    for side, of_last in ((0, 1.0), (1, factor)):
        last = single(of_last, pairs - 1, 1000 + side, slowest)
        if side and samples:
            last = replace(last, latency={**(last.latency or {}), **samples})
        others = [single(1.0, at, 100 * side + at, **(first if not at + side else {})) for at in range(pairs - 1)]
        sides.append(report(*others, last))
    return (diff(*sides).latency or ())[-1]


def test_the_noise_of_single_processes_is_how_much_slower_the_slowest_calibration_is() -> None:
    assert singles(1.12, 10).verdict == "slower"
    within = singles(1.08, 10)
    assert (within.verdict, within.why) == ("inconclusive", "the machine's own noise is 10.0 %")
    assert within.noise == pytest.approx(1.1)
    assert singles(1.08, 10, slowest=40.0).verdict == "slower"


def test_of_a_single_process_the_undisturbed_rounds_count_and_without_any_all() -> None:
    disturbed = [1.5] * 24 + [1.0] * 16
    rounds = {"samples_us": [[1000 * one for one in disturbed]], "interrupted": [[]]}
    busy = singles(1.0, 11, samples=rounds | {"calibration_us": [[40.0 * one for one in disturbed]]})
    assert busy.ratio == pytest.approx(1.0, rel=0.01)
    assert busy.after_us == pytest.approx(1000.0, rel=0.01)
    interrupted = rounds | {"interrupted": [list(range(40))], "calibration_us": [[40.0] * 40]}
    assert singles(1.0, 11, samples=interrupted).after_us == pytest.approx(1500.0, rel=0.01)


def test_twenty_single_processes_show_the_noise_and_nineteen_do_not() -> None:
    assert singles(1.12, 10).verdict == "slower"
    assert singles(1.12, 10, calibration=None).verdict == "not comparable"
    assert "too few figures to know the noise" in singles(1.12, 10, calibration=None).why


def test_a_machine_that_became_slower_decides_nothing_for_single_processes_either() -> None:
    old, new = (
        report(*(single(factor, at, 100 * side + at, calibration) for at in range(12)))
        for side, (factor, calibration) in enumerate([(1.0, 40.0), (1.5, 60.0)])
    )
    changes = diff(old, new).latency or ()
    assert {change.verdict for change in changes} == {"inconclusive"}
    assert all("the machine's own speed changed" in change.why for change in changes)


def test_old_reports_without_raw_samples_have_nothing_to_compare() -> None:
    comparison = diff(report(PASSED), report(PASSED))
    assert comparison.latency == ()


# Hardware


def test_reports_of_different_hardware_are_compared_in_parity_alone() -> None:
    other = {"cpu": {**MACHINE["cpu"], "model": "B"}}  # type: ignore[dict-item]
    old, new = report(timed(figure())), report(timed(figure(2.0), status="failed"), **other)
    comparison = diff(old, new)
    assert comparison.latency is None
    assert comparison.hardware == {"cpu.model": ("A", "B")}
    assert [change.kind for change in comparison.parity] == ["regressed"]
    across = diff(old, new, across_hardware=True)
    assert [change.verdict for change in across.latency or ()] == ["slower"]


def test_load_and_frequency_make_no_other_machine() -> None:
    other = {"cpu": {**MACHINE["cpu"], "mhz": 800}}  # type: ignore[dict-item]
    assert diff(report(timed(figure())), report(timed(figure(seed=1)), **other)).latency


def test_another_numpy_is_another_calibration_loop() -> None:
    busy = figure(seed=1, calibration_us=[[80.0] * 10 for _ in range(20)])
    packages = {"packages": {**MACHINE["packages"], "numpy": "2.1"}}  # type: ignore[dict-item]
    (change,) = diff(report(timed(figure())), report(timed(busy), **packages)).latency or ()
    assert change.verdict == "no change"


def test_changed_versions_are_listed() -> None:
    packages = {"packages": {"numpy": "2.0", "onnxruntime": "1.33.0", "tract": "0.22"}}
    comparison = diff(report(), report(**packages))
    assert comparison.versions == {"onnxruntime": ("1.32.0", "1.33.0"), "tract": ("none", "0.22")}


# Printed


def printed(comparison: Diff) -> str:
    console = Console(width=200, record=True, force_terminal=False)
    show_diff(comparison, console)
    return console.export_text()


def test_the_table_starts_with_the_worst_and_ends_with_the_verdict() -> None:
    old = report(timed(figure()), replace(PASSED, case="p"))
    new = report(timed(figure(1.1, seed=1)), replace(FAILED, case="p", target=PASSED.target))
    lines = [line.rstrip() for line in printed(diff(old, new)).splitlines()]
    assert lines[-1] == "Regressed: 1 no longer as expected, 1 slower."
    assert any(line.startswith("regressed") and "compare: mismatch" in line for line in lines)
    assert any(line.startswith("slower") and "1.09" in line for line in lines)
    assert "Latency: 1 slower (changes below 3 % are ignored)." in lines


def test_the_table_is_cut_with_a_note() -> None:
    results = [replace(PASSED, case=f"c{at}", target="t") for at in range(SHOWN + 5)]
    assert "and 5 more; --json prints all of them" in printed(diff(report(), report(*results)))


def test_a_pipe_gets_every_row_on_a_line_without_blanks_at_its_end(
    harness: Call, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("old.json", report())
    write("new.json", report(*(replace(FAILED, case=f"c{at}", message="x" * at) for at in range(SHOWN + 5))))
    monkeypatch.delenv("COLUMNS")
    lines = harness("diff", "old.json", "new.json").out.splitlines()
    assert sum(line.startswith("new ") for line in lines) == SHOWN + 5
    assert [line for line in lines if line != line.rstrip()] == []


def test_markup_in_a_case_is_text() -> None:
    changed = replace(FAILED, case="a/[bold]b[/bold]\x1b[31m")
    assert "[bold]b[/bold]\\x1b[31m" in printed(diff(report(), report(changed)))


Write = Callable[[str, Report], Path]


@pytest.fixture
def write(here: Path) -> Write:
    def put(name: str, what: Report) -> Path:
        path = here / name
        path.write_text(JsonReport().render(what), encoding="utf-8")
        return path

    return put


def test_the_exit_code_of_diff_depends_on_regressions(harness: Call, write: Write) -> None:
    write("old.json", report(timed(figure())))
    write("new.json", report(timed(figure(1.1, seed=1))))
    assert harness("diff", "old.json", "old.json").code == 0
    worse = harness("diff", "old.json", "new.json")
    assert worse.code == 1
    assert worse.out.splitlines()[-1] == "Regressed: 1 slower."
    assert harness("diff", "old.json", "new.json", "--min-effect", "0.2").code == 0
    missing = harness("diff", "old.json", "nowhere.json")
    assert missing.code == 2
    assert "nowhere.json" in missing.err


def test_a_lost_check_fails_the_command_unless_it_is_allowed(harness: Call, write: Write) -> None:
    write("old.json", report(PASSED, KNOWN))
    write("new.json", report(PASSED))
    lost = harness("diff", "old.json", "new.json")
    assert (lost.code, lost.out.splitlines()[-1]) == (1, "Regressed: 1 lost.")
    assert any(line.startswith("lost ") for line in lost.out.splitlines())
    assert harness("diff", "old.json", "new.json", "--allow-missing").code == 0


def test_the_command_prints_json(harness: Call, write: Write) -> None:
    write("old.json", report(timed(figure())))
    write("new.json", report(timed(figure(1.1, seed=1))))
    ran = harness("diff", "old.json", "new.json", "--json")
    printed_json = json.loads(ran.out)
    assert (ran.code, printed_json["regressed"]) == (1, True)
    assert printed_json["latency"][0]["verdict"] == "slower"


def test_what_was_read_back_is_what_was_written(write: Write) -> None:
    old, new = report(timed(figure())), report(timed(figure(1.1, seed=1)))
    again = diff(read_report(write("old.json", old)), read_report(write("new.json", new)))
    assert again.to_dict() == diff(old, new).to_dict()
