"""On a system that is not Linux: what runs no check answers as ever, what runs one says in a line that it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.without_torch import ROOT

ELSEWHERE = """
import os, sys
import harness.cli, harness.spec.discovery  # with libraries that choose their own code by the system
assert "harness.engine" not in sys.modules

sys.platform = {system!r}
for name in ("sched_getaffinity", "sched_setaffinity", "getloadavg"):
    delattr(os, name)
for name in ("fcntl", "resource"):
    sys.modules[name] = None
from harness.cli import main

main()
"""
SPEC = "{harness: 1, layer: ReLU, cases: [{name: a, inputs: {x: {values: [1.0, -2.0]}}}]}"


def harness(folder: Path, system: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "elsewhere.py").write_text(ELSEWHERE.format(system=system), encoding="utf-8")
    (folder / "relu.yaml").write_text(SPEC, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "elsewhere.py", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("system", "arguments"),
    [
        ("darwin", ["run", "relu.yaml"]),
        ("win32", ["bench", "relu.yaml"]),
        ("win32", ["pack", "relu.yaml", "-o", "bundle"]),
        ("darwin", ["explain", "a", "relu.yaml", "--target", "trace/torch-cpu"]),
    ],
)
def test_commands_that_run_checks_say_that_they_need_linux(tmp_path: Path, system: str, arguments: list[str]) -> None:
    done = harness(tmp_path, system, *arguments)
    assert done.returncode == 3, done.stderr
    assert done.stderr == f"this is {system}, where a check cannot be contained; run harness on Linux\n"
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["list", "relu.yaml"], ["check", "relu.yaml"], ["doctor"]])
def test_what_runs_none_answers_as_ever(tmp_path: Path, arguments: list[str]) -> None:
    done = harness(tmp_path, "darwin", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout
