"""Every report format shows inconclusive passes; ``--strict-ulp`` makes them fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Call

ORT = ("--targets", "onnx-torchscript@17/ort-cpu", "--no-latency", "-j", "1")
TRACED = ("--targets", "trace/torch-cpu", "--no-latency", "-j", "1")
FLUSHED = "of them are zero, expected nonzero) and pass only because the tolerance is"
VERY_NEGATIVE = """\
harness: 1
layer: Sigmoid
cases:
  - name: far-left
    inputs: {x: {shape: [64], fill: {uniform: [-60, -40]}}}
  - name: near
    inputs: {x: {shape: [64], fill: {uniform: [1, 2]}}}
"""
Write = Callable[[str, str], Path]


@pytest.fixture
def sigmoid(spec: Write) -> str:
    """ONNX Runtime flushes the sigmoid of very negative inputs to zero; the absolute tolerance allows that."""
    return str(spec("sigmoid.yaml", VERY_NEGATIVE))


def test_an_inconclusive_pass_is_reported_in_its_row_and_at_the_terminal(
    harness: Call, here: Path, sigmoid: str
) -> None:
    ran = harness("run", sigmoid, *ORT)
    rows = {case: row for (case, _), row in ran.rows.items()}
    assert (ran.code, rows["sigmoid/far-left"]["status"]) == (0, "passed")
    assert FLUSHED in rows["sigmoid/far-left"]["outputs"][0]["inconclusive"]
    assert rows["sigmoid/near"]["outputs"][0]["inconclusive"] is None
    markdown = (here / "reports" / "latest" / "report.md").read_text("utf-8")
    (row,) = [line for line in markdown.splitlines() if "inconclusive:" in line]
    assert "sigmoid/far-left" in row
    assert "of them are zero, expected nonzero" in row
    assert FLUSHED in (here / "reports" / "latest" / "report.html").read_text("utf-8")
    output = " ".join(ran.out.split())
    first = f"1 check passed but is inconclusive. First: sigmoid/far-left on {ORT[1]}: 64 of 64 values are off by more"
    assert first in output
    assert FLUSHED in output


def test_an_accurate_target_is_not_inconclusive(harness: Call, sigmoid: str) -> None:
    ran = harness("run", sigmoid, *TRACED)
    assert ran.code == 0
    assert "off by more than 10 %" not in str(ran.report["results"])


def test_strict_ulp_makes_the_inconclusive_case_fail(harness: Call, sigmoid: str) -> None:
    ran = harness("run", sigmoid, *ORT, "--strict-ulp", "8")
    assert ran.code == 1
    row = ran.rows["sigmoid/far-left", ORT[1]]
    assert (row["status"], row["stage"], row["symptom"]) == ("failed", "compare", "mismatch")
    assert row["outputs"][0]["tolerance"] == "8 ulp"
    assert "inconclusive" not in ran.out


def test_strict_ulp_overrides_the_tolerance_of_a_spec_and_leaves_exact_alone(harness: Call, spec: Write) -> None:
    path = spec(
        "mine.yaml",
        "harness: 1\nlayer: Sigmoid\ndefaults: {inputs: {x: {values: [0]}}}\ncases:\n"
        "  - {name: wide, tolerance: {rtol: 0, atol: 1}, expect: {outputs: [{values: [0.6]}]}}\n"
        "  - {name: exact, tolerance: exact, expect: {outputs: [{values: [0.5]}]}}\n",
    )
    assert harness("run", str(path), *TRACED).code == 0
    strict = harness("run", str(path), *TRACED, "--strict-ulp", "1000")
    assert strict.code == 1
    assert {case: row["status"] for (case, _), row in strict.rows.items()} == {
        "mine/wide": "failed",
        "mine/exact": "passed",
    }
    assert strict.rows["mine/exact", TRACED[1]]["outputs"][0]["tolerance"] == "exact"


def test_strict_fails_an_inconclusive_pass_and_says_why(harness: Call, sigmoid: str) -> None:
    ran = harness("run", sigmoid, *ORT, "--strict")
    assert ran.code == 1
    row = ran.rows["sigmoid/far-left", ORT[1]]
    assert (row["status"], row["stage"], row["symptom"], row["blame"]) == ("failed", "compare", "mismatch", None)
    assert row["message"].startswith("the pass is inconclusive, which a strict run does not accept: 64 of 64 values")
    assert ran.rows["sigmoid/near", ORT[1]]["status"] == "passed"
    assert "the pass is inconclusive, which a strict run does not accept" in " ".join(ran.out.split())


EMPTY = """\
harness: 1
layer: ReLU
cases: [{name: empty, inputs: {x: {shape: [0, 3]}}}]
"""


def test_outputs_that_are_empty_at_every_draw_are_inconclusive_and_strict_fails_them(
    harness: Call, spec: Write
) -> None:
    path = str(spec("relu.yaml", EMPTY))
    plain = harness("run", path, *TRACED)
    assert plain.code == 0
    assert "1 check passed but is inconclusive. First: relu/empty" in " ".join(plain.out.split())
    strict = harness("run", path, *TRACED, "--strict")
    assert strict.code == 1
    assert strict.only["message"].endswith("the output has no elements, so no value was compared")


def test_an_output_that_is_empty_at_one_draw_only_is_conclusive(harness: Call, here: Path, spec: Write) -> None:
    (here / "chosen.py").write_text(
        "from torch import nn\nclass Positive(nn.Module):\n    def forward(self, x):\n        return x[x > 0]\n",
        "utf-8",
    )
    path = str(
        spec("net.yaml", "harness: 1\ncases: [{name: a, factory: 'chosen:Positive', inputs: {x: {shape: [1]}}}]\n")
    )
    ran = harness("run", path, *TRACED, "--strict", "--allow-import")
    assert ran.only["status"] == "passed"
    assert ran.code == 0


def test_verify_is_strict_on_request() -> None:
    import torch

    import harness as api

    module, empty = torch.nn.ReLU().eval(), torch.zeros(0, 3)
    assert api.verify(module, empty, targets="trace/torch-cpu").passed
    strict = api.verify(module, empty, targets="trace/torch-cpu", strict=True)
    assert not strict.passed
    assert "inconclusive" in strict.message
