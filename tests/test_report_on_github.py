"""A run writes a summary and annotations on GitHub Actions only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Call

Write = Callable[[str, str], Path]
WRONG = """
harness: 1
layer: ReLU
cases:
  - name: signed
    inputs: {x: {values: [1.0, -2.0]}}
    expect: {outputs: [{values: [1.0, -2.0]}]}
"""
COMMAND = ("run", "specs", "--targets", "trace/torch-cpu", "--no-latency")
ANNOTATION = "::error file=specs/relu.yaml,line=5,col=5,title=signed%3A failed::"


@pytest.fixture
def summary(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The step summary, with text from an earlier step."""
    path = here / "summary.md"
    path.write_text("# An earlier step\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    return path


def test_on_github_the_summary_is_appended_and_the_line_of_the_spec_is_annotated(
    harness: Call, spec: Write, summary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec("relu.yaml", WRONG)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    ran = harness(*COMMAND)
    assert ran.code == 1
    assert ANNOTATION in ran.out
    written = summary.read_text(encoding="utf-8")
    assert written.startswith("# An earlier step\n# Parity report\n")
    assert "relu/signed" in written


def test_the_format_alone_asks_for_it(harness: Call, spec: Write, summary: Path, here: Path) -> None:
    spec("relu.yaml", WRONG)
    assert ANNOTATION in harness(*COMMAND, "--format", "json,github").out
    assert "relu/signed" in summary.read_text(encoding="utf-8")
    assert "relu/signed" in (here / "reports" / "latest" / "report.github.md").read_text(encoding="utf-8")


def test_outside_github_nothing_is_annotated(
    harness: Call, spec: Write, summary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    spec("relu.yaml", WRONG)
    assert "::error" not in harness(*COMMAND).out
    assert summary.read_text(encoding="utf-8") == "# An earlier step\n"


def test_a_summary_that_cannot_be_written_is_one_line(
    harness: Call, spec: Write, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec("relu.yaml", WRONG)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(here / "none" / "summary.md"))
    ran = harness(*COMMAND, "--format", "github")
    assert ran.code == 3
    assert ran.err.startswith("GITHUB_STEP_SUMMARY ")
    assert "Traceback" not in ran.err
