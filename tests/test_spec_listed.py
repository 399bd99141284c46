"""An entry of known failures that matches no check is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.spec.discovery import known_failures_for, load_specs
from harness.spec.targets import Target
from tests.conftest import Call

RELU = """
harness: 1
layer: ReLU
cases:
  - {name: small, inputs: {x: {shape: [2]}}, matrix: {dtype: [float32, float64]}}
"""
ENTRY = "- {{cases: '{}', targets: '{}', stage: compare, symptom: mismatch, reason: r}}\n"


@pytest.fixture
def specs(here: Path) -> Path:
    folder = here / "specs"
    folder.mkdir()
    for name in ("relu", "other"):
        (folder / f"{name}.yaml").write_text(RELU, encoding="utf-8")
    (folder / "targets.yaml").write_text("default: [trace/torch-cpu]\n", encoding="utf-8")
    return folder


def write(folder: Path, *entries: tuple[str, str]) -> Path:
    path = folder / "known-failures.yaml"
    path.write_text("".join(ENTRY.format(*entry) for entry in entries), encoding="utf-8")
    return path


@pytest.mark.parametrize("command", [["check"], ["run", "--no-latency"]])
def test_entries_that_match_nothing_are_refused_before_anything_runs(
    harness: Call, specs: Path, command: list[str]
) -> None:
    write(specs, ("relu/smal*", "*"), ("relu/*", "*/ort-cuda"), ("relu/small[[]dtype=float32]", "*"), ("relu/*", "*"))
    ran = harness(*command, "specs")
    assert (ran.code, ran.report) == (2, {})
    lines = [line.partition(" match no case of the specs on any known target; ") for line in ran.err.splitlines()]
    assert [message for message, _, _ in lines] == [
        "specs/known-failures.yaml:2:3: cases 'relu/*' on targets '*/ort-cuda'",
        "specs/known-failures.yaml:3:3: cases 'relu/small[[]dtype=float32]' on targets '*'",
    ]
    assert [remedy for _, _, remedy in lines] == [
        "correct its globs or remove it",
        "correct its globs (near: relu/small[dtype=float32]) or remove it",
    ]


def test_brackets_in_a_glob_are_literal(specs: Path) -> None:
    write(specs, ("*/small[dtype=float32]", "*"))
    assert len(known_failures_for(load_specs([specs]), [specs])) == 1


def test_an_entry_for_other_versions_must_match_something_too(specs: Path) -> None:
    path = write(specs, ("nothing/*", "*"))
    path.write_text(path.read_text(encoding="utf-8").replace("reason", "when: torch<1, reason"), encoding="utf-8")
    with pytest.raises(SpecError, match=r"^\S+known-failures\.yaml:1:3: cases 'nothing/\*'"):
        known_failures_for(load_specs([specs]), [specs])


def test_an_entry_may_match_a_requested_target(specs: Path) -> None:
    write(specs, ("relu/*", "*/ort-cuda"))
    assert len(known_failures_for(load_specs([specs]), [specs], [Target("onnx-dynamo", "ort-cuda")])) == 1


def test_for_single_files_only_their_entries_apply(specs: Path) -> None:
    path = write(specs, ("relu/*", "*"), ("other/*", "*"))
    alone = specs / "relu.yaml"
    assert [entry.cases for entry in known_failures_for(load_specs([alone]), [alone])] == ["relu/*"]
    with pytest.raises(SpecError, match="other/"):
        known_failures_for(load_specs([alone]), [alone], override=path)
