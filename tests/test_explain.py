"""``harness explain`` as its users meet it: what is said, what is written, and the exit code."""

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

from harness.explain.attempt import attempt
from harness.explain.explanation import neighbours
from harness.explain.process import Contained, Gone
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


def test_without_a_target_those_of_the_case_are_named_and_an_only_one_is_taken(
    harness: Call, specs: Path, here: Path
) -> None:
    told = harness("explain", "dropped")
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("pool/dropped-divisor: --target says where it fails; one of trace/torch-cpu, script/")
    (here / "specs" / "targets.yaml").write_text("default: [trace/torch-cpu]\n", encoding="utf-8")
    assert harness("explain", "dropped").out.startswith("pool/dropped-divisor on trace/torch-cpu: passed")


def test_a_failure_is_explained_and_the_script_that_is_handed_over_shows_it(
    harness: Call, specs: Path, here: Path
) -> None:
    told = harness("explain", "dropped", "--target", TARGET, "--budget", "5")
    assert told.code == 1, told.err
    assert told.out.startswith(f"pool/dropped-divisor on {TARGET}: failed (compare: mismatch)")
    assert "Blame: exporter" in told.out
    assert "passes  onnx-torchscript@17+fixes/ort-cpu" in told.out
    assert "fails   onnx-dynamo@23/ort-cpu (compare: mismatch, exporter to blame)" in told.out
    assert "AveragePool(x: float32[1, 2, 4, 4])" in told.out
    assert "it belongs to torch's AvgPool2d (matched by the exporter's own names)" in told.out
    script = here / "reports" / "explain" / "pool-dropped-divisor.py"
    assert f"{script.relative_to(here)}: it was run and shows the failure; its exit code is 1" in told.out
    assert "| the fault is there: output 0:" in told.out
    text = script.read_text(encoding="utf-8")
    assert "harness" not in text
    ran = subprocess.run([sys.executable, "-W", "ignore", script], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stdout.splitlines()[-1].startswith("the fault is there: output 0:")


USER_CODE = """
harness: 1
factory: own_code:net
cases:
  - {name: own, args: {divisor: 3}, inputs: {x: {shape: [1, 1, 2, 2]}}}
"""
NET = "from torch import nn\n\ndef net(divisor):\n    return nn.AvgPool2d(2, divisor_override=divisor)\n"


def test_a_model_of_ones_own_is_named_in_its_smallest_case(
    harness: Call, spec: Callable[[str, str], Path], here: Path
) -> None:
    (here / "own_code.py").write_text(NET, encoding="utf-8")
    spec("mine.yaml", USER_CODE)
    told = harness("explain", "own", "--target", TARGET, "--allow-import", "--budget", "2")
    assert told.code == 1, told.err
    assert "  model = own_code:net(divisor=3)\n" in told.out
    assert "it belongs to torch's AvgPool2d" in told.out
    assert "none: the model is made by own_code:net, which is not public" in told.out


def test_a_check_that_passes_has_nothing_to_explain(harness: Call, specs: Path, here: Path) -> None:
    told = harness("explain", "pool/fine", "specs/pool.yaml", "--target", "trace/torch-cpu")
    assert told.code == 0
    assert "passed; there is nothing to explain" in told.out
    assert not (here / "reports").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing-like-it", "--target", TARGET), "nothing-like-it: no case is called so"),
        (("fine", "--target", TARGET), "fine: part of the ids of 2 cases; name one of pool/fine, pool/fine-as-well"),
        (("pool/fine", "--target", "default"), "--target default: names 6 targets"),
        (("pool/fine", "--target", "file/ort-cpu"), "file/ort-cpu"),
        (("pool/fine", "elsewhere", "--target", TARGET), "elsewhere: no such file or directory"),
    ],
)
def test_a_request_that_names_no_one_check_is_refused(
    harness: Call, specs: Path, arguments: tuple[str, ...], said: str
) -> None:
    told = harness("explain", *arguments)
    assert told.code == 2
    assert said in told.err
    assert told.err.count("\n") == 1


def test_a_runtime_that_is_not_here_is_said(harness: Call, specs: Path) -> None:
    told = harness("explain", "pool/fine", "--target", "onnx-dynamo@23/ort-qnn")
    assert told.code == 3
    assert "skipped: ort-qnn" in told.out


def test_the_neighbours_differ_in_one_thing() -> None:
    target = parse_target(TARGET)
    others = [str(other) for other in neighbours(target)]
    assert TARGET not in others
    assert {"onnx-torchscript@13/ort-cpu", "onnx-torchscript@17+fixes/ort-cpu", "onnx-dynamo@23/ort-cpu"} <= set(others)
    assert {"onnx-torchscript@17/reference"} <= set(others)
    assert "script/torch-cpu" in {str(other) for other in neighbours(parse_target("trace/torch-cpu"))}


def answer(_scratch: Path, what: str, *, announce: Callable[[str], None]) -> str:
    announce("build")
    announce("export")
    if what == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "leave":
        os._exit(0)
    if what == "hang":
        while True:
            time.monotonic()
    if what == "raise":
        raise ValueError(what)
    return what


def test_a_question_that_takes_its_process_down_is_answered_with_how(here: Path) -> None:
    contained = Contained(here, torch=True)

    def ask(what: str, seconds: float = 60.0) -> Any:
        return contained.ask(answer, what, seconds=seconds)

    assert ask("fine") == "fine"
    assert ask("die") == Gone("export", "the process was killed by SIGSEGV", overdue=False)
    assert ask("leave") == Gone("export", "the process ended with exit code 0", overdue=False)
    hung = ask("hang", seconds=1.0)
    assert isinstance(hung, Gone)
    assert hung.overdue
    with pytest.raises(RuntimeError, match="ValueError: raise"):
        ask("raise")
    assert ask("fine") == "fine"
    contained.close()


MISMATCH = Result("a", "t", "failed", "compare", "mismatch")
EXPORT = Result("a", "t", "error", "export", "exception")
CRASH = Result("a", "t", "error", "run", "crash")
FAULT = "print('the fault is there: output 0: off'); raise SystemExit(1)"
RAISED = "print('the fault is there: export raises ValueError: x'); raise SystemExit(1)"


@pytest.mark.parametrize(
    ("text", "result", "shows"),
    [
        (FAULT, MISMATCH, True),
        (RAISED, EXPORT, True),
        ("import os; os.abort()", CRASH, True),
        (RAISED, MISMATCH, False),
        (FAULT, EXPORT, False),
        (FAULT, CRASH, False),
        ("print('the fault is there: output 0: off')", MISMATCH, False),
        ("print('no fault')", MISMATCH, False),
        ("raise ValueError", MISMATCH, False),
        ("import os; os.abort()", MISMATCH, False),
        ("import harness_is_not_needed", EXPORT, False),
    ],
)
def test_a_script_shows_the_fault_only_by_its_own_word(text: str, result: Result, shows: bool) -> None:
    assert attempt(text, result, 60.0).shows is shows


def test_a_script_that_does_not_end_shows_nothing() -> None:
    assert attempt("while True: pass", MISMATCH, 0.5).code is None


def test_what_is_known_is_as_expected(harness: Call, specs: Path, spec: Callable[[str, str], Path]) -> None:
    spec("known-failures.yaml", KNOWN)
    told = harness("explain", "dropped", "--target", "onnx-torchscript@17+fixes/ort-cpu")
    assert told.code == 1, "it passes although it is listed"
    assert "fixed: it passes, although" in told.out
