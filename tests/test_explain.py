"""``harness explain``: its messages, the script that it writes, and its exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.blame.other_targets import other_targets
from harness.engine.worker_status import KeptVerdict
from harness.explain.explanation import run_script
from harness.explain.process import ModelSize, ProcessEnd, SeparateProcess
from harness.result import Result
from harness.spec.targets import parse_target
from tests.conftest import Call

TARGET = "onnx-torchscript@17/ort-cpu"
SPEC = """
harness: 1
cases:
  - name: dropped-divisor
    layer: AvgPool2d
    args: {kernel_size: [2, 2], stride: [2, 2], divisor_override: 3}
    inputs: {x: {shape: [1, 2, 4, 4]}}
  - name: fine
    layer: ReLU
    inputs: {x: {shape: [2, 3]}}
  - name: fine-as-well
    layer: Tanh
    inputs: {x: {shape: [2, 3]}}
"""
KNOWN = """
- {cases: pool/dropped-divisor, targets: onnx-*, stage: compare, symptom: mismatch, reason: The divisor is dropped.}
"""


@pytest.fixture
def specs(spec: Callable[[str, str], Path]) -> Path:
    return spec("pool.yaml", SPEC)


def test_without_a_target_the_only_one_is_used_and_several_are_listed(harness: Call, specs: Path, here: Path) -> None:
    ran = harness("explain", "dropped")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("pool/dropped-divisor has 6 targets; pick one with --target: trace/torch-cpu, script/")
    (here / "specs" / "targets.yaml").write_text("default: [trace/torch-cpu]\n", encoding="utf-8")
    assert harness("explain", "dropped").out.startswith("pool/dropped-divisor on trace/torch-cpu: passed")


def test_a_failure_is_explained_and_the_script_reproduces_it(harness: Call, specs: Path, here: Path) -> None:
    ran = harness("explain", "dropped", "--target", TARGET, "--budget", "5")
    assert ran.code == 1, ran.err
    assert ran.out.startswith(f"pool/dropped-divisor on {TARGET}: failed (compare: mismatch)")
    assert "Blame: exporter" in ran.out
    assert "passes  onnx-torchscript@17+fixes/ort-cpu" in ran.out
    assert "fails   onnx-dynamo@23/ort-cpu (compare: mismatch, blame: exporter)" in ran.out
    assert "AveragePool(x: float32[1, 2, 4, 4])" in ran.out
    assert "exported from the torch module AvgPool2d (matched by the exporter's scope names)" in ran.out
    script = here / "reports" / "explain" / "pool-dropped-divisor.py"
    assert f"{script.relative_to(here)}: was run and reproduces the failure (exit code 1)" in ran.out
    assert "| reproduced: output 0:" in ran.out
    text = script.read_text(encoding="utf-8")
    assert "harness" not in text
    process = subprocess.run([sys.executable, "-W", "ignore", script], capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert process.stdout.splitlines()[-1].startswith("reproduced: output 0:")
    script.unlink()
    again = harness("explain", "dropped", "--target", TARGET, "--budget", "5")
    assert (again.code, again.out) == (ran.code, ran.out)
    assert again.err.startswith("as explained on ")
    assert script.read_text(encoding="utf-8") == text


USER_CODE = """
harness: 1
factory: own_code:net
cases:
  - {name: own, args: {divisor: 3}, inputs: {x: {shape: [1, 1, 2, 2]}}}
"""
NET = "from torch import nn\n\ndef net(divisor):\n    return nn.AvgPool2d(2, divisor_override=divisor)\n"


def test_a_users_own_model_is_named_in_its_smallest_case(
    harness: Call, spec: Callable[[str, str], Path], here: Path
) -> None:
    (here / "own_code.py").write_text(NET, encoding="utf-8")
    spec("mine.yaml", USER_CODE)
    ran = harness("explain", "own", "--target", TARGET, "--allow-import", "--budget", "2")
    assert ran.code == 1, ran.err
    assert "  model = own_code:net(divisor=3)\n" in ran.out
    assert "exported from the torch module AvgPool2d" in ran.out
    assert (
        "none: the model comes from your own code (own_code:net), which a self-contained script cannot import"
        in ran.out
    )


def test_a_check_that_passes_has_nothing_to_explain(harness: Call, specs: Path, here: Path) -> None:
    ran = harness("explain", "pool/fine", "specs/pool.yaml", "--target", "trace/torch-cpu")
    assert ran.code == 0
    assert "passed; there is nothing to explain" in ran.out
    assert not (here / "reports").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing-like-it", "--target", TARGET), "no case named nothing-like-it"),
        (("fine", "--target", TARGET), "fine matches 2 cases; pick one: pool/fine, pool/fine-as-well"),
        (("pool/fine", "--target", "default"), "--target default names 6 targets"),
        (("pool/fine", "--target", "file/ort-cpu"), "file/ort-cpu"),
        (("pool/fine", "elsewhere", "--target", TARGET), "elsewhere: no such file or directory"),
    ],
)
def test_a_request_that_does_not_name_one_check_is_refused(
    harness: Call, specs: Path, arguments: tuple[str, ...], message: str
) -> None:
    ran = harness("explain", *arguments)
    assert ran.code == 2
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_an_unavailable_runtime_is_reported(harness: Call, specs: Path) -> None:
    ran = harness("explain", "pool/fine", "--target", "onnx-dynamo@23/ort-qnn")
    assert ran.code == 3
    assert "skipped: ort-qnn" in ran.out


def test_other_targets_differ_in_one_thing() -> None:
    target = parse_target(TARGET)
    others = [str(other) for other in other_targets(target)]
    assert TARGET not in others
    assert {"onnx-torchscript@13/ort-cpu", "onnx-torchscript@17+fixes/ort-cpu", "onnx-dynamo@23/ort-cpu"} <= set(others)
    assert {"onnx-torchscript@17/reference"} <= set(others)
    assert "script/torch-cpu" in {str(other) for other in other_targets(parse_target("trace/torch-cpu"))}


def misbehave(_scratch: Path, kind: str, *, announce: Callable[[object], None]) -> str:
    announce("build")
    announce("export")
    if kind == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "exit":
        os._exit(0)
    if kind == "large":
        announce(ModelSize(1 << 30))
        ends = time.monotonic() + 3.0
        while time.monotonic() < ends:
            pass
    if kind == "hang after a verdict":
        announce(KeptVerdict(os.getpid(), 0, "blame", MISMATCH))
        while True:
            time.monotonic()
    if kind == "raise":
        raise ValueError(kind)
    return kind


def test_a_call_that_ends_its_process_returns_how_it_ended(here: Path) -> None:
    process = SeparateProcess(here, torch=True)

    def call(kind: str, seconds: float = 60.0) -> Any:
        return process.call(misbehave, kind, seconds=seconds)

    assert call("fine") == "fine"
    assert call("crash") == ProcessEnd("export", "the process was killed by SIGSEGV", timed_out=False)
    assert call("exit") == ProcessEnd("export", "the process ended with exit code 0", timed_out=False)
    assert call("fine") == "fine"  # a process that has loaded this module announces at once
    hung = call("hang after a verdict", seconds=2.0)
    assert isinstance(hung, ProcessEnd)
    assert hung.timed_out
    assert hung.verdict is not None
    kept = hung.verdict.lost("compare", "timeout", hung.description, (), ())
    assert (kept.status, kept.symptom) == ("failed", "mismatch")
    assert kept.notes == ("finding the blame was not finished within 2 s",)
    crashed = KeptVerdict(1, 0, "weights", Result("a", "t", "passed")).lost("compare", "crash", "killed", (), ())
    assert (crashed.status, crashed.message) == ("error", "the outputs agree; then comparing the weights: killed")
    with pytest.raises(RuntimeError, match="ValueError: raise"):
        call("raise")
    assert process.call(misbehave, "large", seconds=2.0, per_gib=60.0) == "large"  # once its size is known
    assert call("fine") == "fine"
    process.close()


MISMATCH = Result("a", "t", "failed", "compare", "mismatch")
EXPORT = Result("a", "t", "error", "export", "exception")
CRASH = Result("a", "t", "error", "run", "crash")
REPRODUCED = "print('reproduced: output 0: off'); raise SystemExit(1)"
RAISED = "print('reproduced: export raises ValueError: x'); raise SystemExit(1)"


@pytest.mark.parametrize(
    ("text", "result", "reproduced"),
    [
        (REPRODUCED, MISMATCH, True),
        (RAISED, EXPORT, True),
        ("import os; os.abort()", CRASH, True),
        (RAISED, MISMATCH, False),
        (REPRODUCED, EXPORT, False),
        (REPRODUCED, CRASH, False),
        ("print('reproduced: output 0: off')", MISMATCH, False),
        ("print('not reproduced')", MISMATCH, False),
        ("raise ValueError", MISMATCH, False),
        ("import os; os.abort()", MISMATCH, False),
        ("import harness_is_not_needed", EXPORT, False),
    ],
)
def test_a_script_reproduces_a_failure_only_by_its_last_line(text: str, result: Result, reproduced: bool) -> None:
    assert run_script(text, result, 60.0).reproduced is reproduced


def test_a_script_that_does_not_end_has_no_exit_code() -> None:
    assert run_script("while True: pass", MISMATCH, 0.5).exit_code is None


def test_a_listed_check_that_passes_is_fixed(harness: Call, specs: Path, spec: Callable[[str, str], Path]) -> None:
    spec("known-failures.yaml", KNOWN)
    ran = harness("explain", "dropped", "--target", "onnx-torchscript@17+fixes/ort-cpu")
    assert ran.code == 1, "it passes although it is listed"
    assert "fixed: the check passes, although" in ran.out
