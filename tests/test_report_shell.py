"""Suggested commands can be pasted, for any name of a case or folder."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness.cli import cli
from harness.errors import escape_path, unescape_path
from harness.report.markdown import MarkdownReport
from harness.report.shell import command_line, deciding_options, explain_words, resume_words
from harness.report.terminal import show
from harness.report.wording import next_step
from harness.result import Report
from tests.conftest import Call
from tests.report_samples import FAILED

AWKWARD = ["a b", "it's", '"', "$(touch x)", "`x`", "[k=v]", "-x", "--", "*", "a  b", "é", "#", "!", "~", "a\\b"]
UNPRINTABLE = ["a\nb", "\x1b[31m", "\udcff", "\t", "\u202e", "'\r"]
words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
printable = words.filter(str.isprintable) | st.sampled_from(AWKWARD)
anything = words | st.sampled_from([*AWKWARD, *UNPRINTABLE])


runs = st.fixed_dictionaries(
    {"allow_import": st.booleans(), "layers": st.booleans(), "strict": st.booleans()},
    optional={"strict_ulp": st.none() | st.integers(0, 99)},
)


@given(printable, printable, st.none() | printable, runs)
def test_explain_selects_the_case_that_was_meant_with_the_options_that_decide(
    case: str, target: str, folder: str | None, run: dict[str, Any]
) -> None:
    line = command_line(explain_words(case, target.removeprefix("-") or "t", folder, deciding_options(run)))
    harness, command, *rest = shlex.split(line)
    assert (harness, command) == ("harness", "explain")
    parameters = _parsed("explain", rest)
    assert (parameters["case"], parameters["paths"]) == (case, () if folder is None else (folder,))
    assert parameters["target"] == (target.removeprefix("-") or "t")
    assert {key: parameters[key] for key in run} == run


@given(st.lists(printable, min_size=1, max_size=3), st.booleans())
def test_resume_takes_the_words_that_were_typed(paths: list[str], resume: bool) -> None:
    typed = ["run", *(["--resume"] if resume else []), "-j", "2", "--", *paths]
    harness, command, *rest = shlex.split(command_line(resume_words(typed)))
    assert (harness, command, rest.count("--resume") - paths.count("--resume")) == ("harness", "run", 1)
    parameters = _parsed("run", rest)
    assert (parameters["resume"], parameters["jobs"], parameters["paths"]) == (True, 2, tuple(paths))


@given(st.lists(anything, max_size=3), st.sampled_from(["utf-8", "ascii"]))
def test_nothing_of_a_command_is_more_than_text(command: list[str], encoding: str) -> None:
    line = command_line(command, encoding)
    assert line.isprintable()
    line.encode(encoding)


def test_a_shell_reads_back_what_shlex_cannot_write() -> None:
    command = [*AWKWARD, *UNPRINTABLE, *(chr(code) for code in range(1, 256))]
    for encoding in ("utf-8", "ascii"):
        assert _as_bash_reads_it(command_line(command, encoding)) == [os.fsencode(word) for word in command]


@given(anything)
def test_a_path_is_shown_in_printable_characters_that_can_be_read_back(path: str) -> None:
    assert escape_path(path).isprintable()
    assert unescape_path(escape_path(path)) == path


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("awkward", [*AWKWARD, *UNPRINTABLE])
def test_every_format_has_the_command_letter_for_letter(awkward: str, encoding: str) -> None:
    row = replace(
        FAILED, case=f"{escape_path(awkward)}/case", where=f"{escape_path(awkward)}/{escape_path(awkward)}.yaml:1:1"
    )
    step = next_step(row)
    assert step is not None
    assert step.command is not None
    expected = [os.fsencode(word) for word in ("harness", "explain", row.case, "--target", row.target, awkward)]
    assert sorted(set(_as_bash_reads_it(step.command)) - {b"--"}) == sorted(set(expected) - {b"--"})
    assert step.command in MarkdownReport().render(Report({}, (row,)))
    shown = _Encoded(encoding)
    show(Report({}, (row,)), (), Console(file=shown, width=40, color_system=None))
    (line,) = [line for line in shown.lines() if line.startswith("        harness explain ")]
    assert sorted(set(_as_bash_reads_it(line)) - {b"--"}) == sorted(set(expected) - {b"--"})
    assert "\x1b" not in "".join(shown.lines())


def test_a_bundle_is_named_where_its_checks_are_explained() -> None:
    row = replace(FAILED, case="relu/bad", where="/host/specs/relu.yaml:1:1")
    report = Report({}, (row,), {"paths": ["my bundle"], "bundle": {"seal": "x"}})
    command = f"harness explain relu/bad --target {row.target} 'my bundle'"
    assert command in MarkdownReport().render(report)
    shown = _Encoded("utf-8")
    show(report, (), Console(file=shown, width=300))
    assert f"        {command}" in shown.lines()


def test_what_a_run_suggests_is_pasted_into_a_shell(harness: Call, here: Path) -> None:
    folder = here / os.fsdecode(b"-d \xff'$(touch owned)`\x1b[31m")
    folder.mkdir()
    (folder / "-s\n.yaml").write_text(
        "harness: 1\nlayer: ReLU\ncases:\n  - {name: -bad, inputs: {x: {shape: [3]}}, expect: {range: [5, 6]}}\n",
        encoding="utf-8",
    )
    ran = harness("run", f"./{folder.name}", "--targets", "trace/torch-cpu", "--no-latency")
    assert ran.code == 1, ran.err
    assert "\x1b" not in ran.out + ran.err
    (line,) = [line.strip() for line in ran.out.splitlines() if "harness explain" in line]
    lines = re.findall(
        r"`+ ?(harness explain .*?) ?`+$", Path("reports/latest/report.md").read_text("utf-8"), re.MULTILINE
    )
    assert lines == [line]
    shell = f'harness() {{ "{sys.executable}" -m harness "$@"; }}; {line}'
    pasted = subprocess.run(["bash", "-c", shell], capture_output=True, check=False, text=True, env=_with_harness())
    assert pasted.returncode == 1, pasted.stderr
    assert pasted.stdout.startswith("-s\\x0a/-bad on trace/torch-cpu: failed")
    assert "\x1b" not in pasted.stdout + pasted.stderr
    assert not (here / "owned").exists()


class _Encoded(io.TextIOWrapper):
    """A terminal with a fixed encoding."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)

    def lines(self) -> list[str]:
        self.seek(0)
        return self.read().split("\n")


def _parsed(command: str, arguments: list[str]) -> dict[str, object]:
    context = cli.commands[command].make_context(command, arguments, parent=click.Context(cli))
    return dict(context.params)


def _as_bash_reads_it(line: str) -> list[bytes]:
    script = f"printf '%s\\0' {line}".encode()
    return subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout.split(b"\0")[:-1]


def _with_harness() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
