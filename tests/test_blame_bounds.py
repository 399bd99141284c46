"""The bounds within which an answer counts as right, and the checks that are made as evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from harness.blame.disagreement import (
    Disagreement,
    absolute_errors,
    max_error,
    unstable_answer,
    with_one_more_rounding,
)
from harness.blame.evaluator import not_believed_reason
from harness.blame.file_evaluation import order_of_equal_values
from harness.blame.other_targets import evidence_checks, other_targets, with_other_targets
from harness.exporters import Artifact
from harness.model.answer import Reference
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


def test_other_targets_switch_the_corrected_lowerings() -> None:
    for target, other in (("onnx-dynamo@23", "onnx-dynamo@23+fixes"), ("onnx-dynamo@19+fixes", "onnx-dynamo@19")):
        assert f"{other}/ort-cpu" in map(str, other_targets(parse_target(f"{target}/ort-cpu")))


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


# Answers that say nothing about who is wrong


def unstable(
    start: NDArray[Any], changes: NDArray[Any], error: NDArray[Any], dtype: type[np.generic] = np.float32
) -> str | None:
    """What is said of a target that is off by ``error`` where eager torch's answer moves by ``changes``."""

    def eager(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {"y": np.where(inputs["x"] == start, start, start + changes).astype(dtype)}

    reference = Reference({"x": start}, {"y": start.astype(dtype)}, None, (), (), stochastic=False)
    target, file = parse_target("onnx-dynamo@18/ort-cpu"), Artifact("onnx", Path("model.onnx"), "")
    answer = {"y": (start + error).astype(dtype)}
    return unstable_answer(Disagreement(target, file, reference, answer, Tolerance(Exact()), eager=eager))


def test_an_error_is_unstable_if_a_last_bit_of_the_inputs_changes_eager_torch_as_much() -> None:
    start = np.linspace(1, 2, 64, dtype=np.float32)
    everywhere, half = np.full(64, 0.125), np.tile([0.25, 0.0], 32)
    assert unstable(start, everywhere, everywhere) is not None
    assert unstable(start, everywhere, 3 * everywhere) is None
    assert unstable(start, half, np.full(64, 0.375)) is None, "no single value is too far off, all together are"
    assert unstable(start, np.tile([1.0, 0.0], 32), np.eye(64)[0] * 3) is None, "a single value is too far off"


def test_a_change_by_one_of_large_integers_is_no_more_than_rounding() -> None:
    one = np.ones(64)
    assert unstable(np.full(64, 9e3, np.float32), one, one, np.int64) is None
    assert unstable(np.full(64, 8e3, np.float32), one, one, np.int64) is not None


@pytest.mark.parametrize(("units", "is_more"), [(999, False), (1001, True)])
def test_a_change_of_a_thousand_roundings_is_more_than_rounding(units: int, is_more: bool) -> None:
    changes = np.tile([1000.0, float(units)], 32) * 2.0**-23
    assert (unstable(np.ones(64, np.float32), changes, changes) is not None) is is_more


@pytest.mark.parametrize(
    ("values", "largest", "tied"),
    [
        ([3, 3, 1, 0], None, True),
        ([3, 3, 1, 0], 1, True),
        ([3, 2, 2, 1], 1, True),
        ([3, 2, 1, 1], 1, False),
        ([0, 0, 1, 3], 0, True),
        ([0, 1, 1, 3], 0, True),
        ([0, 1, 3, 3], 0, False),
    ],
)
def test_only_equal_values_that_are_chosen_have_no_order(
    values: list[int], largest: int | None, tied: bool, tmp_path: Path
) -> None:
    choose: Any = {} if largest is None else {"largest": largest}
    path = tmp_path / "model.onnx"
    node = helper.make_node("TopK", ["x", "k"], ["values", "indices"], **choose)
    outputs = {"values": tensor(shape=[2]), "indices": tensor(TensorProto.INT64, [2])}
    count = helper.make_tensor("k", TensorProto.INT64, [1], [2])
    onnx.save(graph([node], {"x": tensor(shape=[4])}, outputs, initializers=[count]), path)
    x = np.array(values, np.float32)
    chosen = np.sort(x)[:2] if largest == 0 else np.sort(x)[::-1][:2]
    eager = {"values": chosen, "indices": np.array([0, 1])}
    reference = Reference({"x": x}, eager, None, (), (), stochastic=False)
    target, file = parse_target("onnx-dynamo@18/ort-cpu"), Artifact("onnx", path, "")

    def is_excused(answer: dict[str, NDArray[Any]]) -> bool:
        disagreement = Disagreement(target, file, reference, answer, Tolerance(Exact()))
        return order_of_equal_values(disagreement) is not None

    assert is_excused({**eager, "indices": np.array([1, 0])}) is tied
    assert not is_excused(eager), "nothing differs"
    assert not is_excused({"values": chosen + 1, "indices": np.array([1, 0])})
