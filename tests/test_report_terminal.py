"""Printed output: its order, and that narrow, plain, colourless and ASCII terminals show it correctly."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.report.terminal import SHOWN, Progress, show
from harness.result import NO_LAYERS, Layer, Report, Result
from tests.report_samples import ALL, DIFFERENCE, ERROR, FAILED, FIXED, LATENCY, PASSED, SKIPPED, report


def printed(made: Report, *, width: int = 80, encoding: str = "utf-8", quiet: bool = False, **options: bool) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(file=stream, width=width, **options)  # type: ignore[arg-type]
    show(made, [Path("reports/latest/report.json"), Path("reports/latest/report.md")], console, quiet=quiet)
    stream.flush()
    return raw.getvalue().decode(encoding)


def flat(text: str) -> str:
    return "".join(text.split())


def test_the_summary_is_first_what_is_wrong_is_last_and_the_verdict_ends_it() -> None:
    text = printed(report(*ALL), width=200)
    lines = text.splitlines()
    assert lines[0].split() == ["target", "passed", "failed", "error", "known", "fixed", "skipped"]
    places = [text.index(word) for word in ("\nall", "FAILED", "ERROR", "FIXED", "Written:", "Not as expected: 3 of 6")]
    assert places == sorted(places)
    assert lines[-1].startswith("Not as expected")


def test_an_unexpected_check_is_one_line_on_a_wide_terminal() -> None:
    (line,) = [line for line in printed(report(FAILED, PASSED), width=500).splitlines() if line.startswith("FAILED")]
    for text_part in (FAILED.case, FAILED.target, "compare: mismatch", "exporter", DIFFERENCE, FAILED.where):
        assert text_part is not None
        assert text_part in line


@pytest.mark.parametrize("width", [40, 80, 200])
def test_nothing_is_lost_and_nothing_overflows_at_any_width(width: int) -> None:
    text = printed(report(*ALL), width=width)
    lines = [line for line in text.splitlines() if not line.startswith("        harness explain ")]
    assert max(map(len, lines)) <= width, "all but a command, which is to be pasted, is folded"
    for text_part in (
        FAILED.case,
        FAILED.target,
        str(FAILED.where),
        "INTERNAL ASSERT FAILED",
        "Not as expected: 3 of 6",
    ):
        assert flat(text_part) in flat(text)


def test_square_brackets_of_a_case_are_no_markup() -> None:
    assert "a[bold]b[/bold]" in printed(report(replace(ERROR, case="a[bold]b[/bold]", target="[red]t/r")), width=200)


def test_no_control_character_of_a_message_reaches_the_terminal() -> None:
    text = printed(report(replace(ERROR, message="\x1b]0;title\x07 \x1b[2J gone")), width=200)
    assert "\x1b" not in text
    assert "\\x1b[2J gone" in text


def test_a_terminal_without_unicode_gets_escapes_and_not_an_error() -> None:
    assert "\\xd7" in printed(report(replace(ERROR, message="2\u00d72")), encoding="ascii", width=200)


def test_colour_can_be_turned_off_and_carries_no_information(monkeypatch: pytest.MonkeyPatch) -> None:
    coloured = printed(report(*ALL), force_terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = printed(report(*ALL), force_terminal=True)
    assert "\x1b[32m" in coloured
    assert "\x1b[3" not in plain
    assert "FAILED" in plain


def test_many_causes_are_cut_and_counted() -> None:
    text = printed(report(*(replace(FAILED, case=f"a{number}/c") for number in range(SHOWN + 7))), width=200)
    assert text.count("FAILED") == SHOWN
    assert "... and 7 more in reports/latest/report.md" in text
    twice = [replace(FAILED, case=f"a{number}/{case}") for number in range(SHOWN + 7) for case in "cd"]
    assert "... and 7 more in 14 checks in reports/latest/report.md" in printed(report(*twice), width=200)


def test_checks_with_one_cause_are_one_entry_with_their_number_and_the_command_for_the_first() -> None:
    alike = [replace(FAILED, case=f"a/c{number}", target=target) for number in range(9) for target in ("x@7/r", "y/r")]
    text = printed(report(ERROR, *alike), width=500)
    lines = [line.rstrip() for line in text.splitlines() if line.startswith(("FAILED", "ERROR"))]
    assert [line.split()[0] for line in lines] == ["FAILED", "ERROR"], "wrong answers come before errors"
    assert "a: values differ by more than the tolerance: 18 checks, 9 cases, 2 targets, 2 exporters" in lines[0]
    assert "compare: mismatch (blame: exporter) | first: a/c0 on x@7/r | 3 of 4 values differ" in lines[0]
    assert text.count("harness explain") == 1
    assert "more in reports" not in text


def test_a_run_that_verified_nothing_has_no_verdict() -> None:
    assert "No verdict: nothing was compared" in printed(report(SKIPPED))
    assert "No verdict: there was nothing to verify." in printed(report())
    complaints = ["known-failures.yaml:1:1: matches nothing; remove it", "and another"]
    text = printed(Report({}, (PASSED,), {"complaints": complaints}), width=200)
    assert text.splitlines()[-2:] == ["and another", f"No verdict: {complaints[0]} (1 check: 1 passed)."]


def test_quiet_leaves_out_the_layers_of_a_check_that_passed() -> None:
    made = report(replace(PASSED, layers_show="no step"), FAILED)
    assert "Layers of" in printed(made)
    quiet = printed(made, quiet=True)
    assert "Layers of" not in quiet
    assert "FAILED" in quiet


def test_checks_without_layers_are_named_with_their_reason_and_counted_if_quiet() -> None:
    compared = replace(PASSED, layers=(Layer("a", "ReLU", 0, local=0.0),), layers_show="no step")
    without = [replace(PASSED, case=f"x/{n}", notes=(f"{NO_LAYERS}the model is stochastic",)) for n in range(5)]
    empty = replace(PASSED, case="x/empty", layers_show="no layer could be judged")
    made = report(compared, *without, empty)
    asked = replace(made, run={**made.run, "layers": True})
    on = PASSED.target
    lines = printed(asked, width=400).splitlines()
    assert f"no layers: the model is stochastic (5 checks: x/0 on {on}, x/1 on {on}, x/2 on {on} and 2 more)" in lines
    assert f"no layers: no layer could be judged (1 check: x/empty on {on})" in lines
    quiet = printed(asked, width=400, quiet=True).splitlines()
    assert quiet[0] == f"The layers of 6 of 7 checks were not compared. First: x/0 on {on}: the model is stochastic"
    assert len(printed(made, width=400, quiet=True).splitlines()) == 1, "nobody asked for layers"


@pytest.mark.parametrize(
    ("us", "shown"),
    [(12.34, "12.3 us"), (999.4, "999 us"), (999.5, "1 ms"), (12_340.0, "12.3 ms"), (999_600.0, "1 s"), (2e6, "2 s")],
)
def test_a_latency_has_the_unit_that_needs_no_power_of_ten(us: float, shown: str) -> None:
    made = report(replace(PASSED, latency={**LATENCY, "median_us": us, "low_us": None, "high_us": None}))
    assert f"{PASSED.case} on {PASSED.target}: {shown}," in printed(made, width=300)


def test_an_interrupted_run_has_no_verdict() -> None:
    assert (
        "No verdict: the run was interrupted after 1 check (1 passed); continue it with the same command and --resume."
        in printed(Report({}, (PASSED,), {"interrupted": True}), width=200)
    )


# --- progress -------------------------------------------------------------------------------------------------------


def progress_of(results: list[Result], *, terminal: bool, seconds: float = 1.0) -> str:
    now = [0.0]
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=terminal, color_system=None)
    progress = Progress(console, clock=lambda: now[0])
    progress.begin(len(results))
    for result in results:
        now[0] += seconds
        progress.advance(result)
    progress.end()
    return stream.getvalue()


def test_a_log_gets_a_line_for_each_tenth() -> None:
    lines = progress_of([PASSED] * 30 + [FAILED] + [FIXED] + [PASSED] * 68, terminal=False).splitlines()
    assert len(lines) == 10
    assert lines[0] == "10 of 100 checks, about 90 s left"
    assert lines[3] == "40 of 100 checks, 2 failing, about 60 s left"
    assert lines[-1] == "100 of 100 checks, 2 failing"


def test_a_slow_run_prints_lines_between_the_tenths() -> None:
    lines = progress_of([PASSED] * 100, terminal=False, seconds=20.0).splitlines()
    assert len(lines) == 50
    assert "about 33 min left" in lines[0]


def test_less_than_a_second_is_no_time_that_is_left() -> None:
    lines = progress_of([PASSED] * 3, terminal=False, seconds=0.1).splitlines()
    assert lines == ["1 of 3 checks", "2 of 3 checks", "3 of 3 checks"]


def test_fewer_checks_than_tenths_give_a_line_each() -> None:
    assert progress_of([PASSED, ERROR, SKIPPED], terminal=False).count("\n") == 3


def test_a_terminal_gets_a_live_line_that_goes_away() -> None:
    text = progress_of([PASSED] * 5, terminal=True)
    assert "5/5" in text
    assert text.endswith("\x1b[2K") or "\x1b[1A" in text
