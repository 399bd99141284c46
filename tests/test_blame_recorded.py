"""Independent runtimes decide who is blamed for a disagreement with a recorded model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import harness.blame.file_runs
import harness.blame.recorded
from harness.blame.file_runs import attribute_stopped
from harness.blame.recorded import RecordedDisagreement, attribute_recorded
from harness.exporters import Artifact
from harness.registry import plugins
from harness.runtimes import Session
from harness.spec.language.tolerances import Close, Tolerance
from harness.spec.targets import parse_target
from tests.conftest import Call
from tests.recorded_models import FLOAT, graph, record, tensor

X = np.array([[1.0, -2.0, 3.0]], np.float32)
RELU = np.maximum(X, 0)
RIGHT, WRONG, THIRD = RELU, 2 * RELU, 3 * RELU
Answer = Mapping[str, Any]


def disagreement(folder: Path, target: str, recorded: Any, answer: Any, op: str = "Relu") -> RecordedDisagreement:
    kind = tensor(FLOAT, X.shape)
    nodes = [helper.make_node(op, ["x"], ["y"])]
    if op == "QuantizeLinear":
        nodes = [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("QuantizeLinear", ["r", "s"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s"], ["y"]),
        ]
    scale = [onnx.numpy_helper.from_array(np.array(1, np.float32), "s")] if op == "QuantizeLinear" else []
    path = folder / "model.onnx"
    path.write_bytes(graph(nodes, {"x": kind}, {"y": kind}, initializers=scale, opset=21).SerializeToString())
    tolerance = Tolerance(Close(1e-3, 1e-7))
    return RecordedDisagreement(
        parse_target(target), Artifact("onnx", path, "digest"), {"x": X}, {"y": recorded}, {"y": answer}, tolerance
    )


def others_answer(monkeypatch: pytest.MonkeyPatch, answers: Sequence[Any]) -> None:
    def independent_answers(*_arguments: Any) -> Iterator[tuple[str, Answer]]:
        return iter([(f"runtime-{number}", {"y": answer}) for number, answer in enumerate(answers)])

    monkeypatch.setattr(harness.blame.recorded, "independent_answers", independent_answers)


@pytest.mark.parametrize(
    ("answers", "blame"),
    [
        ([], "spec"),
        ([RIGHT], "spec"),
        ([THIRD, RIGHT], "spec"),
        ([WRONG], None),
        ([WRONG, RIGHT], None),
        ([WRONG, THIRD], None),
        ([WRONG, WRONG], "kernel"),
        ([WRONG, RIGHT, WRONG], "kernel"),
    ],
)
def test_the_recorded_answer_is_blamed_only_if_no_other_runtime_gives_it(
    answers: list[Any], blame: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    others_answer(monkeypatch, answers)
    blamed, evidence = attribute_recorded(disagreement(tmp_path, "file/tract", recorded=WRONG, answer=RIGHT))
    assert blamed == blame
    assert ("the recorded answer is not what the file computes" in evidence) == (blame == "spec")
    on_reference, _ = attribute_recorded(disagreement(tmp_path, "file/reference", recorded=WRONG, answer=RIGHT))
    assert on_reference == (None if blame == "spec" else blame)


@pytest.mark.parametrize(("answers", "blame"), [([], "kernel"), ([RIGHT, THIRD], "kernel"), ([RIGHT, WRONG], None)])
def test_a_kernel_is_not_blamed_for_an_answer_that_another_runtime_gives_too(
    answers: list[Any], blame: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    others_answer(monkeypatch, answers)
    blamed, evidence = attribute_recorded(disagreement(tmp_path, "file/tract", recorded=RIGHT, answer=WRONG))
    assert blamed == blame
    assert any("gives the target's answer for the same file" in line for line in evidence) == (blame is None)


def unknown_to_the_evaluator(monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(*_arguments: Any) -> Answer:
        raise NotImplementedError("no such operator")

    for name in ("evaluate", "evaluate_in_file_dtypes"):
        monkeypatch.setattr(harness.blame.recorded, name, evaluate)


@pytest.mark.parametrize(
    ("answers", "blame"), [([], None), ([RIGHT], None), ([RIGHT, RIGHT], "kernel"), ([WRONG], None)]
)
def test_two_runtimes_take_the_place_of_the_evaluator(
    answers: list[Any], blame: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unknown_to_the_evaluator(monkeypatch)
    others_answer(monkeypatch, answers)
    assert attribute_recorded(disagreement(tmp_path, "file/tract", RIGHT, WRONG))[0] == blame
    quantized = attribute_recorded(disagreement(tmp_path, "file/tract", RIGHT, WRONG, "QuantizeLinear"))
    assert quantized[0] is None


@pytest.mark.parametrize(
    ("answer", "answers", "blame"),
    [
        (WRONG, [], "optimizer"),
        (WRONG, [RIGHT], "optimizer"),
        (WRONG, [THIRD], "optimizer"),
        (WRONG, [WRONG], None),
        (WRONG, [RIGHT, WRONG], None),
        (RELU + np.float32(1e-4), [], None),
        (RELU + np.float32(1e-4), [RIGHT], "optimizer"),
    ],
)
def test_the_optimizer_is_blamed_without_the_evaluator_unless_rounding_explains_it(
    answer: Any, answers: list[Any], blame: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unknown_to_the_evaluator(monkeypatch)
    others_answer(monkeypatch, answers)
    blamed, evidence = attribute_recorded(disagreement(tmp_path, "file/ort-cpu", RIGHT, answer, "QuantizeLinear"))
    assert blamed == blame
    assert "with graph optimization off the same file gives the recorded answer" in evidence
    on_unoptimized = disagreement(tmp_path, "file/ort-cpu?optimization=disabled", RIGHT, answer)
    assert attribute_recorded(on_unoptimized)[0] is None


def test_a_softmax_that_flattens_is_right_although_the_evaluator_does_not_flatten(harness: Call, here: Path) -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 8
    powers = np.exp(x.reshape(2, 12))
    right = (powers / powers.sum(axis=1, keepdims=True)).reshape(x.shape)
    node = helper.make_node("Softmax", ["x"], ["y"], axis=1)
    kind = tensor(FLOAT, x.shape)
    record(here / "net", graph([node], {"x": kind}, {"y": kind}, opset=11), [x], [right])
    ran = harness("run", "net", "--no-latency", "--targets", "ort-cpu,openvino,tract,reference", "-j", "1")
    assert ran.rows["net", "file/ort-cpu"]["status"] == "passed"
    assert all(row["blame"] != "spec" for row in ran.report["results"])
    failing = [row for row in ran.report["results"] if row["status"] == "failed"]
    if all(plugins("runtimes")[name].availability().present for name in ("openvino", "tract")):
        assert all(row["blame"] == "kernel" for row in failing)


# Files that load only without optimization


class OnlyUnoptimized:
    """A runtime that raises at ``stage`` unless optimization is off, and else returns ``answer``."""

    name, takes = "picky", "onnx"
    options: Mapping[str, str] = {"optimization": "on or off"}

    def __init__(self, stage: str, answer: Any) -> None:
        self.stage, self.answer, self.options_of_session = stage, answer, dict[str, str]()

    def load(self, _artifact: Artifact, options: Mapping[str, str]) -> OnlyUnoptimized:
        self.options_of_session = dict(options)
        if options.get("optimization") != "disabled" or self.stage == "always":
            raise RuntimeError("the optimizer lost a node")
        return self

    def run(self, _inputs: Any) -> Any:
        return {"y": self.answer}

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("stage", "symptom", "answer", "blame", "evidence"),
    [
        ("load", "exception", RIGHT, "optimizer", "the same file loads and runs, with the expected answer"),
        ("load", "unsupported", RIGHT, "optimizer", "the same file loads and runs, with the expected answer"),
        (
            "load",
            "exception",
            WRONG,
            "optimizer",
            "the same file loads and runs, with another answer than the expected",
        ),
        ("load", "out-of-memory", RIGHT, None, ""),
        ("load", "unavailable", RIGHT, None, ""),
        ("always", "exception", RIGHT, None, ""),
    ],
)
def test_a_file_that_loads_only_without_optimization_is_the_optimizers_fault(
    stage: str, symptom: Any, answer: Any, blame: str | None, evidence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = OnlyUnoptimized(stage, answer)
    monkeypatch.setattr(harness.blame.file_runs, "plugins", lambda _group: {"ort-cpu": runtime})
    target, artifact = parse_target("file/ort-cpu?threads=2"), Artifact("onnx", Path("model.onnx"), "digest")

    def gives_expected(session: Session) -> bool:
        return bool((session.run({})["y"] == RIGHT).all())

    blamed, lines = attribute_stopped(target, artifact, symptom, gives_expected)
    assert blamed == blame
    assert evidence in " ".join(lines)
    if blame:
        assert lines[0].startswith("on file/ort-cpu?threads=2&optimization=disabled, ")
        assert runtime.options_of_session == {"threads": "2", "optimization": "disabled"}
    already_off = parse_target("file/ort-cpu?optimization=disabled")
    assert attribute_stopped(already_off, artifact, symptom, gives_expected) == (None, ())


def test_a_file_that_loads_only_without_optimization_is_reported_as_such(harness: Call, here: Path) -> None:
    """ONNX Runtime 1.32 removes a multiplication by a computed 1 together with the cast that the output needs."""
    nodes = [
        helper.make_node("Cast", ["x"], ["same"], to=FLOAT),
        helper.make_node("Div", ["one", "one_more"], ["quotient"]),
        helper.make_node("Mul", ["same", "quotient"], ["y"]),
    ]
    ones = [onnx.numpy_helper.from_array(np.ones(1, np.float32), name) for name in ("one", "one_more")]
    kind = tensor(FLOAT, X.shape)
    record(here / "net", graph(nodes, {"x": kind}, {"y": kind}, initializers=ones), [X], [X])
    ran = harness("run", "net", "--no-latency", "-j", "1", "--targets", "ort-cpu,ort-cpu?optimization=disabled")
    assert ran.rows["net", "file/ort-cpu?optimization=disabled"]["status"] == "passed"
    row = ran.rows["net", "file/ort-cpu"]
    if row["status"] == "passed":
        pytest.skip("this ONNX Runtime loads the file")
    assert (row["status"], row["stage"], row["blame"]) == ("error", "load", "optimizer")
    assert "on file/ort-cpu?optimization=disabled, with graph optimization off, the same file" in row["evidence"][0]
