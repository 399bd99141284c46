"""The bounds within which an answer counts as right, and the checks that are made as evidence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from harness.blame.disagreement import absolute_errors, max_error, with_one_more_rounding
from harness.blame.evaluator import not_believed_reason
from harness.blame.other_targets import evidence_checks, with_other_targets
from harness.result import Result, Stage, Status, Symptom
from harness.spec.discovery import load_specs
from harness.spec.language.tolerances import Calibrated, Close, Exact, Rule, Scaled, Tolerance, Ulp
from harness.spec.targets import parse_target
from tests.recorded_models import graph, tensor


@pytest.mark.parametrize(
    ("rule", "wider"),
    [
        (Exact(), Ulp(2)),
        (Ulp(3), Ulp(5)),
        (Close(1e-3, 1e-5), Close(2e-3, 2e-5)),
        (Scaled(4), Scaled(5)),
        (Calibrated(3.0), Calibrated(3.0)),
    ],
)
def test_one_more_rounding_is_allowed_by_each_rule(rule: Rule, wider: Rule) -> None:
    assert with_one_more_rounding(Tolerance(rule, {1: Exact()})) == Tolerance(wider, {1: Ulp(2)})
    assert with_one_more_rounding(Tolerance(Exact(), {1: rule})) == Tolerance(Ulp(2), {1: wider})


def test_an_error_is_a_distance_and_infinite_where_classes_differ() -> None:
    actual = np.array([1.0, -3.0, np.nan, np.inf, np.nan, np.inf, 5.0], np.float32)
    expected = np.array([1.5, 3.0, np.nan, np.inf, 1.0, -np.inf, 5.0], np.float32)
    assert absolute_errors(actual, expected).tolist() == [0.5, 6.0, 0.0, 0.0, np.inf, np.inf, 0.0]
    assert max_error(actual[:4], expected[:4]) == 6.0
    assert max_error(actual[:4], expected[:3]) == np.inf
    assert max_error(actual[:0], expected[:0]) == 0.0


@pytest.mark.parametrize(
    ("target", "evidence"),
    [
        ("onnx-dynamo@23/ort-cpu", ["onnx-torchscript@20/ort-cpu", "onnx-dynamo@20/ort-cpu"]),
        ("onnx-dynamo@20/ort-cpu", ["onnx-torchscript@20/ort-cpu", "onnx-dynamo@23/ort-cpu"]),
        ("onnx-dynamo@16/ort-cpu", ["onnx-torchscript@13/ort-cpu", "onnx-dynamo@23/ort-cpu"]),
        ("onnx-dynamo@18/ort-cpu", ["onnx-torchscript@17/ort-cpu", "onnx-dynamo@23/ort-cpu"]),
        ("onnx-torchscript@13/ort-cpu", ["onnx-dynamo@18/ort-cpu", "onnx-torchscript@20/ort-cpu"]),
        ("onnx-torchscript@17+fixes/openvino", ["onnx-dynamo@18/openvino", "onnx-torchscript@20/openvino"]),
        (
            "onnx-torchscript@20/ort-cpu?threads=2",
            ["onnx-dynamo@20/ort-cpu?threads=2", "onnx-torchscript@17/ort-cpu?threads=2"],
        ),
        ("trace/torch-cpu", []),
        ("onnx-dynamo/ort-cpu", []),
    ],
)
def test_each_export_has_the_other_exporter_and_another_opset_as_evidence(target: str, evidence: list[str]) -> None:
    case = load_specs(["specs/relu.yaml"]).cases[0]
    wrong = Result(case.id, target, "failed", "compare", "mismatch")
    work = evidence_checks(((case, (parse_target(target),)),), [wrong])
    assert [str(other) for _, targets in work for other in targets] == evidence
    many = tuple((replace(case, id=f"a/{at}"), (parse_target(target),)) for at in range(21))
    work = evidence_checks(many, [replace(wrong, case=other.id) for other, _ in many])
    assert len(work) == (20 if evidence else 0)


def test_only_disagreements_get_the_other_targets_as_evidence() -> None:
    def row(target: str, status: Status, stage: Stage | None = None, symptom: Symptom | None = None) -> Result:
        return Result("c", target, status, stage, symptom, evidence=("before",))

    rows = [
        row("wrong", "failed", "compare", "mismatch"),
        row("listed", "known", "compare", "mismatch"),
        row("right", "passed"),
        row("crash", "error", "run", "crash"),
        row("absent", "skipped", "load", "unavailable"),
        Result("another", "wrong", "failed", "compare", "mismatch"),
    ]
    further = [row("evidence", "fixed")]
    result = with_other_targets(rows, further)
    assert [each.target for each in result] == [each.target for each in rows]
    assert result[0].evidence == (
        "before",
        "the same case passes on right, evidence",
        "the same case also fails on listed (compare: mismatch), crash (run: crash)",
    )
    assert result[1].evidence[2].startswith("the same case also fails on wrong (compare: mismatch)")
    assert [each.evidence for each in result[2:5]] == [("before",)] * 3
    assert result[5].evidence == ()


@pytest.mark.parametrize(("count", "end"), [(5, "O4 (opset 1)"), (7, "O4 (opset 1) and 2 more")])
def test_of_many_operators_that_are_not_believed_five_are_named(count: int, end: str, tmp_path: Path) -> None:
    nodes = [helper.make_node(f"O{at}", ["x"], [f"y{at}"], domain="mine") for at in range(count)]
    path = tmp_path / "model.onnx"
    path.write_bytes(graph(nodes, {"x": tensor()}, {"y0": tensor()}).SerializeToString())
    reason = not_believed_reason(path)
    assert reason is not None
    assert reason.endswith(f"mine.{end}")
