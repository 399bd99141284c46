"""False passes known from other tools, one by one: each fails here, with the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.conftest import Call
from tests.recorded_models import FLOAT, X, graph, record, relu, tensor

Write = Callable[[str, str], Path]
RIGHT = np.maximum(X, 0)
QUIET = "--no-latency"
BOTH = ("--targets", "trace/torch-cpu,onnx-torchscript@17/ort-cpu", QUIET)


def failure_message(harness: Call) -> str:
    """The message of the one row of a run of the recorded model in ``net``, which must have failed."""
    ran = harness("run", "net", QUIET)
    assert ran.code == 1
    assert (ran.only["status"], ran.only["stage"], ran.only["symptom"]) == ("failed", "compare", "mismatch")
    return str(ran.only["message"])


def test_the_right_answer_passes(harness: Call, here: Path) -> None:
    """Each recording below differs from this one only in what its test checks."""
    relu(here / "net", RIGHT)
    assert harness("run", "net", QUIET).code == 0


def test_inputs_that_are_all_positive_do_not_detect_identity_or_abs_instead_of_relu(harness: Call, spec: Write) -> None:
    lines = "harness: 1\nlayer: ReLU\ncases:\n  - {{name: one, inputs: {{x: {{values: {0}}}}}}}\n"
    spec("relu.yaml", lines.format("[1, 2, 9]"))
    positive = harness("audit", "specs")
    assert positive.code == 1
    survived = positive.out[positive.out.index("Mutants that no case kills") :]
    assert "Identity()" in survived
    assert "absolute value" in survived
    spec("relu.yaml", lines.format("[1, -2, 0, 9, 0.5, -0.5]"))
    signed = harness("audit", "specs")
    assert (signed.code, ", 0 survived; 1 of 1 cases" in signed.out) == (0, True)


def test_nothing_compared_is_not_a_pass(harness: Call, here: Path, spec: Write) -> None:
    spec("relu.yaml", "harness: 1\nlayer: ReLU\ncases:\n  - {name: one, inputs: {x: {values: [1, -2]}}}\n")
    nowhere = harness("run", "specs", QUIET, "--targets", "onnx-torchscript@17/ort-coreml")
    assert (nowhere.code, "nothing was compared" in nowhere.out) == (3, True)
    assert harness("run", "specs", "-k", "another").code == 2
    (here / "empty").mkdir()
    assert harness("run", "empty").code == 2


def test_a_model_without_outputs_is_not_a_pass(harness: Call, here: Path, spec: Write) -> None:
    own = "from torch import nn\n\n\nclass Silent(nn.Module):\n    def forward(self, x):\n        return ()\n"
    (here / "own.py").write_text(own, encoding="utf-8")
    spec("own.yaml", "harness: 1\nfactory: own:Silent\ncases:\n  - {name: one, inputs: {x: {values: [1, -2]}}}\n")
    ran = harness("run", "specs", "--allow-import", *BOTH)
    assert ran.code == 1
    assert {row["status"] for row in ran.report["results"]} <= {"failed", "error"}


def record_split(folder: Path, outputs: list[Any]) -> None:
    """A model that splits ``x`` into its first column and the other two."""
    end = {"first": tensor(FLOAT, [1, 1]), "rest": tensor(FLOAT, [1, 2])}
    cut = helper.make_node("Split", ["x", "at"], ["first", "rest"], axis=1)
    at = helper.make_tensor("at", 7, [2], [1, 2])
    record(folder, graph([cut], {"x": tensor(FLOAT, X.shape)}, end, initializers=[at]), [X], outputs)


def test_an_output_missing_on_either_side_is_reported(harness: Call, here: Path) -> None:
    record_split(here / "net", [X[:, :1]])
    assert "2 outputs, expected 1" in failure_message(harness)
    record_split(here / "other" / "net", [X[:, :1], X[:, 1:], X])
    more = harness("run", "other", QUIET)
    assert more.code == 1
    assert "2 outputs, expected 3" in more.only["message"]


def test_outputs_under_each_others_names_are_reported(harness: Call, here: Path) -> None:
    """Two outputs of one shape, each right, each under the other's name."""
    both = {"low": tensor(FLOAT, X.shape), "high": tensor(FLOAT, X.shape)}
    low = helper.make_node("Min", ["x", "zero"], ["low"])
    high = helper.make_node("Max", ["x", "zero"], ["high"])
    zero = helper.make_tensor("zero", FLOAT, [], [0.0])
    model = graph([low, high], {"x": tensor(FLOAT, X.shape)}, both, initializers=[zero])
    record(here / "right", model, [X], [np.minimum(X, 0), np.maximum(X, 0)])
    assert harness("run", "right", QUIET).code == 0
    record(here / "net", model, [X], [np.maximum(X, 0), np.minimum(X, 0)])
    assert failure_message(harness).startswith("low: ")


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.float16])
def test_another_dtype_with_equal_values_is_reported(harness: Call, here: Path, dtype: Any) -> None:
    relu(here / "net", RIGHT.astype(dtype))
    assert f"dtype float32, expected {np.dtype(dtype)}" in failure_message(harness)


def test_a_shape_that_would_broadcast_is_reported(harness: Call, here: Path) -> None:
    relu(here / "net", RIGHT[0])
    assert "shape (1, 3), expected (3,)" in failure_message(harness)


def test_empty_outputs_are_compared_by_shape_and_dtype_with_a_note(harness: Call, here: Path) -> None:
    kind = tensor(FLOAT, [None, 3])
    model = graph([helper.make_node("Relu", ["x"], ["y"])], {"x": kind}, {"y": kind})
    none = np.zeros((0, 3), np.float32)
    record(here / "same", model, [none], [none])
    same = harness("run", "same", QUIET)
    assert (same.code, same.only["status"]) == (0, "passed")
    assert any("the output has no elements; only shape and dtype were compared" in note for note in same.only["notes"])
    assert "1 check passed but is inconclusive. First: same on file/ort-cpu: the output has no elements" in flat(
        same.out
    )
    record(here / "net", model, [none], [np.zeros((0, 4), np.float32)])
    assert "shape (0, 3), expected (0, 4)" in failure_message(harness)


def test_a_pass_with_an_empty_output_beside_a_full_one_is_inconclusive(harness: Call, here: Path) -> None:
    kinds = {"full": tensor(FLOAT, [None, 3]), "empty": tensor(FLOAT, [None, 3])}
    nodes = [helper.make_node("Relu", ["x"], ["full"]), helper.make_node("Relu", ["z"], ["empty"])]
    full, empty = np.ones((1, 3), np.float32), np.zeros((0, 3), np.float32)
    model = graph(nodes, {"x": kinds["full"], "z": kinds["empty"]}, kinds)
    record(here / "net", model, [full, empty], [full, empty])
    ran = harness("run", "net", QUIET)
    assert (ran.code, ran.only["status"]) == (0, "passed")
    assert [output["inconclusive"] is None for output in ran.only["outputs"]] == [True, False]
    assert "1 check passed but is inconclusive" in flat(ran.out)


def test_an_empty_output_of_text_is_inconclusive(harness: Call, here: Path) -> None:
    kind = tensor(int(TensorProto.STRING), [None])
    model = graph([helper.make_node("Identity", ["x"], ["y"])], {"x": kind}, {"y": kind})
    none = helper.make_tensor("x", TensorProto.STRING, [0], [])
    record(here / "net", model, [none], [none])
    ran = harness("run", "net", QUIET)
    assert (ran.code, ran.only["status"]) == (0, "passed")
    assert "1 check passed but is inconclusive" in flat(ran.out)


def test_a_spec_with_an_empty_output_is_inconclusive(harness: Call, spec: Write) -> None:
    spec("relu.yaml", "harness: 1\nlayer: ReLU\ncases:\n  - {name: none, inputs: {x: {shape: [0, 3]}}}\n")
    ran = harness("run", "specs", QUIET, "--targets", "trace/torch-cpu")
    assert (ran.code, ran.only["status"]) == (0, "passed")
    assert "1 check passed but is inconclusive. First: relu/none on trace/torch-cpu: the output has no" in flat(ran.out)


def flat(text: str) -> str:
    return " ".join(text.split())


def test_an_expectation_about_no_element_is_not_a_pass(harness: Call, spec: Write) -> None:
    spec(
        "relu.yaml",
        "harness: 1\nlayer: ReLU\ncases:\n"
        "  - {name: none, inputs: {x: {shape: [0, 3]}}, expect: {formula: 'y == maximum(0, x)'}}\n",
    )
    ran = harness("run", "specs", *BOTH)
    assert ran.code == 1
    assert {row["status"] for row in ran.report["results"]} == {"failed"}


def test_a_shape_that_a_static_model_does_not_take_is_reported(harness: Call, here: Path, spec: Write) -> None:
    shape = tensor(FLOAT, X.shape)
    model = graph([helper.make_node("Relu", ["x"], ["y"])], {"x": shape}, {"y": shape})
    record(here / "net", model, [np.vstack([X, X])], [np.vstack([RIGHT, RIGHT])])
    ran = harness("run", "net", QUIET)
    assert (ran.code, ran.only["status"], ran.only["stage"]) == (1, "error", "run")
    spec(
        "relu.yaml",
        "harness: 1\nlayer: ReLU\ncases:\n  - {name: one, inputs: {x: {shape: [2, 3]}}, also: [{x: [5, 3]}]}\n",
    )
    closed = harness("run", "specs", *BOTH)
    assert closed.code == 2
    assert "relu.yaml:4" in closed.err


@pytest.mark.parametrize("stray", [np.nan, np.inf, -np.inf, 0.0])
def test_nan_against_anything_else_is_reported(harness: Call, here: Path, stray: float) -> None:
    """Recorded as a number and answered as NaN, under a very wide tolerance."""
    x = np.array([[1.0, np.nan, 3.0]], np.float32)
    kind = tensor(FLOAT, x.shape)
    model = graph([helper.make_node("Relu", ["x"], ["y"])], {"x": kind}, {"y": kind})
    folder = record(here / "net", model, [x], [np.array([[1.0, stray, 3.0]], np.float32)])
    (folder / "data.json").write_text('{"rtol": 1e9, "atol": 1e9}', encoding="utf-8")
    ran = harness("run", "net", QUIET)
    assert ran.code == (0 if np.isnan(stray) else 1)


DIES = """\
import os
import sys

from torch import nn


class Dies(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x):
        if self.how == "at once":
            os._exit(0)
        if self.how == "by leaving":
            sys.exit(0)
        os.kill(os.getpid(), 9)
"""


def test_a_process_that_dies_is_not_a_pass(harness: Call, here: Path, spec: Write) -> None:
    """Not even one with exit code 0."""
    (here / "dies.py").write_text(DIES, encoding="utf-8")
    spec(
        "dies.yaml",
        "harness: 1\nfactory: dies:Dies\ncases:\n  - name: one\n    inputs: {x: {values: [1, -2]}}\n"
        "    matrix: {args.how: [at once, by leaving, killed]}\n",
    )
    ran = harness("run", "specs", "--allow-import", QUIET, "--targets", "trace/torch-cpu")
    assert ran.code == 1
    assert [row["status"] for row in ran.report["results"]] == ["error"] * 3


TOLERANCES: tuple[tuple[Any, str], ...] = (
    ("exact", "failed"),
    ({"ulp": 100}, "failed"),
    ({"ulp": 100000}, "passed"),
    ({"rtol": 1e-4, "atol": 0}, "failed"),
    ({"rtol": 1e-2, "atol": 0}, "passed"),
    ({"by_output": {"0": "exact"}}, "failed"),
    ({"rtol": 1e-2, "atol": 0, "by_output": {"0": {"ulp": 1}}}, "failed"),
)


def test_a_tolerance_that_is_read_is_used(harness: Call, here: Path) -> None:
    for number, (tolerance, _) in enumerate(TOLERANCES):
        folder = relu(here / "suite" / str(number), (RIGHT * 1.001).astype(np.float32))
        (folder / "data.json").write_text(json.dumps({"tolerance": tolerance}), encoding="utf-8")
    ran = harness("run", "suite", QUIET)
    assert [row["status"] for row in ran.report["results"]] == [status for _, status in TOLERANCES]
    strict = harness("run", "suite", QUIET, "--strict-ulp", "0")
    assert {row["status"] for row in strict.report["results"]} == {"failed"}


def test_the_tolerance_of_a_spec_is_used(harness: Call, spec: Write) -> None:
    lines = (
        "harness: 1\nlayer: Sigmoid\ndefaults: {inputs: {x: {values: [0]}}, "
        "expect: {outputs: [{values: [0.5005]}]}}\ncases:\n"
        "  - {name: wide, tolerance: {rtol: 0, atol: 0.01}}\n  - {name: tight, tolerance: {rtol: 0, atol: 0.0001}}\n"
    )
    spec("sigmoid.yaml", lines)
    ran = harness("run", "specs", *BOTH)
    statuses = {case: {row["status"] for (name, _), row in ran.rows.items() if name == case} for case, _ in ran.rows}
    assert statuses == {"sigmoid/wide": {"passed"}, "sigmoid/tight": {"failed"}}
