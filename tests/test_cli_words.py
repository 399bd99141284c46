"""How the command line speaks: mistakes of its own use on one line, and rows that a pipe gets unfolded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Call

RELU = (
    "harness: 1\nlayer: ReLU\ncases:\n  - {name: signed, inputs: {x: {values: [1.0, -2.0]}}, expect: {range: [1, 2]}}\n"
)
ROW = (
    "FAILED  relu/signed on trace/torch-cpu | compare: mismatch (blame: spec) | eager torch itself, range: 1 of 2"
    " outside [1, 2]; seen [0, 1] | specs/relu.yaml:4:5"
)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rum", "specs/"], "harness: no such command 'rum'"),
        (["list", "specs/", "--target", "x"], "harness list: no such option '--target'"),
        (["run", "specs/", "-j", "many"], "harness run: invalid value for '-j' / '--jobs': 'many' is not a valid"),
        (["run"], "harness run: missing argument 'PATH...'. Name a spec, or a directory of specs, such as specs/"),
    ],
)
def test_a_command_line_that_is_wrong_is_one_line_which_names_the_help(
    harness: Call, arguments: list[str], said: str
) -> None:
    wrong = harness(*arguments)
    assert (wrong.code, wrong.out) == (2, "")
    (line,) = wrong.err.splitlines()
    assert said in line
    assert line.endswith(f"; {said.partition(':')[0]} --help says what there is")


def test_nothing_at_all_shows_the_help(harness: Call) -> None:
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
