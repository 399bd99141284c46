"""The texts of the command line: a usage error is one line, and a pipe gets each row on one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Call

RELU = (
    "harness: 1\nlayer: ReLU\ncases:\n  - {name: signed, inputs: {x: {values: [1.0, -2.0]}}, expect: {range: [1, 2]}}\n"
)
ROW = (
    "FAILED  relu/signed on trace/torch-cpu | compare: mismatch (blame: spec) | eager torch itself, range: 1 of 2"
    " values is outside [1, 2]; smallest 0, largest 1 | specs/relu.yaml:4:5"
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum", "specs/"], "harness: no such command 'rum'"),
        (["list", "specs/", "--target", "x"], "harness list: no such option '--target'; did you mean --targets?"),
        (
            ["run", "specs/", "-j", "many"],
            "harness run: invalid value for '-j' / '--jobs': a whole number of at least 1",
        ),
        (["run"], "harness run: missing argument 'PATH...'. Name a spec, or a folder of specs, such as specs/"),
    ],
)
def test_a_usage_error_is_one_line_that_names_the_help(harness: Call, arguments: list[str], message: str) -> None:
    ran = harness(*arguments)
    assert (ran.code, ran.out) == (2, "")
    (line,) = ran.err.splitlines()
    assert message in line
    assert line.endswith(f"; see {message.partition(':')[0]} --help")


def test_no_argument_shows_the_help(harness: Call) -> None:
    assert "Examples:" in harness().err


def test_a_pipe_gets_each_row_on_a_line_and_columns_fold_it(
    harness: Call, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "specs").mkdir()
    (here / "specs" / "relu.yaml").write_text(RELU, encoding="utf-8")
    words = ("run", "specs", "--targets", "trace/torch-cpu", "--report-dir", "reports/" + 90 * "x")
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = harness(*words).out.splitlines()
    assert ROW in lines
    assert max(map(len, lines)) > 270, "the line that names the reports"
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, harness(*words).out.splitlines())) <= 60
