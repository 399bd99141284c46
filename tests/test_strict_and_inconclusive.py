"""Every report format shows inconclusive passes; ``--strict-ulp`` makes them fail."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

import harness as harness_api
from harness.data_files.onnx_files import nodes_in_training
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


IGNORED = "the reference's outputs are the same at other inputs: a file that ignores its inputs would pass too"


class Affine(torch.nn.Module):
    """The logistic function of ``a * x + b``: of ``b`` alone where ``a`` is 0, and 1 where ``b`` is large."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As many numbers as ``x`` has."""
        return torch.sigmoid(self.a * x + self.b)


class WithinBounds(Affine):
    """Refuses what is not in its range, as an embedding does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As :class:`Affine`."""
        if x.min() < 0 or x.max() > 1:
            raise ValueError("out of range")
        return torch.sigmoid(self.a * x + self.b)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Affine(0, 0.5), IGNORED),
        (Affine(1, 100), IGNORED),
        (Affine(1, 0.5), None),
        (WithinBounds(0, 0.5), IGNORED),
        (WithinBounds(1, 0.5), None),
    ],
)
def test_verify_finds_outputs_that_do_not_depend_on_the_inputs(module: torch.nn.Module, reason: str | None) -> None:
    x = torch.linspace(0, 1, 6).reshape(2, 3)
    verified = harness_api.verify(module.eval(), x, targets="script/torch-cpu")
    assert verified.passed, verified.message
    assert verified.results[0].inconclusive == reason
    assert harness_api.verify(module, x, targets="script/torch-cpu", strict=True).passed == (reason is None)
    assert harness_api.compare_models(module, module, x).results[0].inconclusive == reason


def test_further_inputs_that_give_other_outputs_are_enough() -> None:
    saturated = torch.full((2, 3), 50.0)
    alone = harness_api.verify(Affine(1, 0.5).eval(), saturated, targets="script/torch-cpu")
    assert alone.results[0].inconclusive is None, "of the opposite sign, it gives zeros"
    both = harness_api.verify(Affine(1, 100).eval(), saturated, also=[-4 * saturated], targets="script/torch-cpu")
    assert both.passed
    assert both.results[0].inconclusive is None


def test_values_in_a_spec_are_no_reason_to_miss_outputs_that_ignore_them(
    harness: Call, here: Path, spec: Write
) -> None:
    (here / "net.py").write_text("from tests.test_strict_and_inconclusive import Affine\n", "utf-8")
    case = "  - {{name: a{0}, factory: 'net:Affine', args: {{a: {0}, b: 0.5}}, inputs: {{x: {{values: [0.5, 1]}}}}}}\n"
    path = str(spec("net.yaml", f"harness: 1\ncases:\n{case.format(0)}{case.format(1)}"))
    rows = harness("run", path, *TRACED, "--allow-import").rows
    found = {case: row["outputs"][0]["inconclusive"] for (case, _), row in rows.items()}
    assert found == {"net/a0": IGNORED, "net/a1": None}


DROPPING = """\
import torch
from torch import nn


def dropping():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 2))
"""
IN_TRAINING = "was exported in training mode (Dropout): the runtime leaves it out, others do not;"
OF_FILE = f"wrong.onnx {IN_TRAINING} call .eval() and export again"


@pytest.fixture
def wrong(here: Path) -> str:
    """A file that was exported without ``.eval()``, beside the callable of its module."""
    (here / "net.py").write_text(DROPPING, encoding="utf-8")
    scope: dict[str, Any] = {}
    exec(DROPPING, scope)
    training = torch.onnx.TrainingMode.TRAINING
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(scope["dropping"](), (torch.ones(3, 4),), "wrong.onnx", dynamo=False, training=training)
    return "wrong.onnx"


def test_a_file_in_training_mode_that_the_optimizer_mends_is_no_plain_pass(
    harness: Call, here: Path, wrong: str
) -> None:
    ran = harness("compare", wrong, "net.py:dropping", "--save-spec", "asked.yaml")
    assert ran.code == 0, ran.err
    first, second, *_ = ran.out.splitlines()
    assert first == (
        "INCONCLUSIVE: wrong.onnx and net.py:dropping agree, but wrong.onnx was exported in training mode (on ort-cpu)"
    )
    assert second.endswith(OF_FILE)
    again = harness("run", "asked.yaml", "--allow-import", "--no-latency")
    assert (again.code, OF_FILE in " ".join(again.out.split())) == (0, True)
    assert OF_FILE in (here / "reports" / "latest" / "report.md").read_text("utf-8")
    strict = harness("run", "asked.yaml", "--allow-import", "--no-latency", "--strict")
    assert (strict.code, strict.only["status"]) == (1, "failed")
    assert OF_FILE in strict.only["message"]
    live = harness("compare", wrong, "net.py:dropping", "--targets", "ort-cpu?optimization=disabled")
    assert (live.code, live.only["blame"]) == (1, None)
    assert live.only["message"].startswith("wrong.onnx was exported in training mode (Dropout): call .eval()")


def test_python_says_why_a_pass_is_inconclusive(here: Path, wrong: str) -> None:
    scope: dict[str, Any] = {}
    exec(DROPPING, scope)
    verified = harness_api.compare_models(here / wrong, scope["dropping"]().eval())
    assert verified.results[0].inconclusive == OF_FILE
    assert str(verified) == f"agrees on file:subject/ort-cpu (inconclusive: {OF_FILE})"


@pytest.mark.usefixtures("wrong")
def test_an_exporter_that_is_asked_for_training_mode_is_inconclusive_too(harness: Call, here: Path) -> None:
    text = "harness: 1\ncases:\n  - {name: own, factory: net.py:dropping, inputs: {input: {shape: [3, 4]}}}\n"
    (here / "mine.yaml").write_text(text, encoding="utf-8")
    stock, asked = (f"onnx-torchscript@17{option}/ort-cpu" for option in ("", "?training=training"))
    ran = harness("run", "mine.yaml", "--allow-import", "--no-latency", "--targets", f"{stock},{asked}", "--strict")
    rows = {row["target"]: row for row in ran.report["results"]}
    assert rows[stock]["status"] == "passed"
    assert rows[asked]["status"] == "failed"
    assert f"the model {IN_TRAINING} leave the option `training` out of the target" in rows[asked]["message"]


@pytest.mark.parametrize(("ratio", "inside", "expected"), [(0.5, True, ["Dropout"]), (0.0, True, []), (0.5, False, [])])
def test_a_live_dropout_is_found_in_the_body_of_a_branch(
    tmp_path: Path, ratio: float, inside: bool, expected: list[str]
) -> None:
    constants = [
        numpy_helper.from_array(np.array(ratio, np.float32), "ratio"),
        numpy_helper.from_array(np.array(inside), "mode"),
    ]
    bodies = {}
    for name in ("then_branch", "else_branch"):
        node = helper.make_node("Dropout", ["x", "ratio", "mode"], [name])
        bodies[name] = helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, 1, [4])])
    branch = helper.make_node("If", ["which"], ["y"], **bodies)
    inputs = [helper.make_tensor_value_info("x", 1, [4]), helper.make_tensor_value_info("which", 9, [])]
    graph = helper.make_graph([branch], "g", inputs, [helper.make_tensor_value_info("y", 1, [4])], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "if.onnx")
    assert nodes_in_training(tmp_path / "if.onnx") == expected


STUCK = """\
from torch import nn


class Stuck(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = [nn.BatchNorm1d(3, affine=False)]

    def forward(self, x):
        return self.parts[0](x)
"""


def test_compare_says_first_that_parts_of_the_reference_are_in_training_mode(harness: Call, here: Path) -> None:
    (here / "net.py").write_text(STUCK, encoding="utf-8")
    scope: dict[str, Any] = {}
    exec(STUCK, scope)
    for path, module in (("trained.onnx", scope["Stuck"]()), ("right.onnx", torch.nn.BatchNorm1d(3).eval())):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, (torch.randn(4, 3),), path, dynamo=False, input_names=["x"])
    words = "parts of the module are in training mode, which .eval() does not reach (parts[0])"
    same = harness("compare", "trained.onnx", "net.py:Stuck")
    first, second, *_ = same.out.splitlines()
    assert first == f"INCONCLUSIVE: trained.onnx and net.py:Stuck agree, but {words} (on ort-cpu)"
    assert second.startswith(f"  caution    the pass is inconclusive: {words}: it answers otherwise in evaluation mode")
    assert "compared in evaluation mode" not in same.out
    other = harness("compare", "right.onnx", "net.py:Stuck")
    assert other.out.startswith(f"DIFFERENT: right.onnx is not net.py:Stuck: {words} (on ort-cpu)\n")
    assert other.only["blame"] is None
