"""An operator's float64 evaluation assigns no blame until another runtime has confirmed it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.operator_sweep import judge as judging
from benchmarks.operator_sweep.__main__ import main
from benchmarks.operator_sweep.models.case import Pair
from benchmarks.operator_sweep.report import markdown, table
from benchmarks.operator_sweep.sweep import Judgement, sweep
from harness.blame import evaluator, file_runs
from harness.blame.attribute import attribute
from harness.blame.disagreement import Disagreement
from harness.blame.evaluator import OPERATORS, TABLE, evaluate_model, not_believed
from harness.blame.recorded import RecordedDisagreement, attribute_recorded
from harness.environment import installed_version
from harness.exporters import Artifact
from harness.model.answer import Reference
from harness.spec.language.tolerances import Exact, Tolerance
from harness.spec.targets import parse_target
from tests.conftest import Call
from tests.recorded_models import X, graph, one_node, record, tensor

QUIET = "--no-latency"


def softmax_11(folder: Path, answer: Any) -> None:
    model = graph([helper.make_node("Softmax", ["x"], ["y"], axis=1)], {"x": tensor()}, {"y": tensor()}, opset=11)
    record(folder, model, [np.zeros((1, 2, 2), np.float32)], [answer])


def test_an_evaluation_that_is_right_blames_the_runtime_that_is_wrong(harness: Call, here: Path) -> None:
    softmax_11(here / "right", np.full((1, 2, 2), 0.25, np.float32))
    ran = harness("run", "right", QUIET, "--targets", "ort-cpu,reference")
    assert ran.rows["right", "file/ort-cpu"]["status"] == "passed"
    row = ran.rows["right", "file/reference"]
    assert (row["status"], row["blame"]) == ("failed", "kernel"), "onnx.reference does not flatten"


def test_a_wrong_recorded_output_is_blamed_on_the_spec(harness: Call, here: Path) -> None:
    softmax_11(here / "wrong", np.full((1, 2, 2), 0.5, np.float32))
    assert harness("run", "wrong", QUIET).only["blame"] == "spec"


def test_the_evidence_names_operators_that_are_not_believed(harness: Call, here: Path) -> None:
    """ONNX Runtime has no CPU kernel for RoiAlign of opset 22, so no runtime has confirmed its evaluation."""
    roi = helper.make_node("RoiAlign", ["x", "r", "b"], ["y"])
    inputs = {"x": tensor(), "r": tensor(), "b": tensor(TensorProto.INT64)}
    model = graph([roi, helper.make_node("Neg", ["y"], ["z"])], inputs, {"z": tensor()}, opset=22)
    values = [np.ones((1, 1, 2, 2), np.float32), np.array([[0, 0, 1, 1]], np.float32), np.array([0])]
    record(here / "net", model, values, [np.full((1, 1, 1, 1), 9, np.float32)])
    row = harness("run", "net", QUIET, "--targets", "reference").only
    assert (row["status"], row["blame"]) == ("failed", None)
    assert "no other runtime has confirmed it for RoiAlign (opset 22)" in row["evidence"][0]


RELU = parse_target("file/ort-cpu")


@pytest.mark.parametrize(("known", "expected"), [(("Relu",), "spec"), ((), None)])
def test_the_table_decides_whether_a_recorded_model_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: Sequence[str], expected: str | None
) -> None:
    only(monkeypatch, known)
    path = record(tmp_path / "net", one_node("Relu"), [X], [X]) / "model.onnx"
    right = {"y": np.maximum(X, 0)}
    recorded = RecordedDisagreement(RELU, Artifact("onnx", path, ""), {"x": X}, {"y": X}, right, Tolerance(Exact()))
    blame, evidence = attribute_recorded(recorded)
    assert blame == expected
    assert known or "no other runtime has confirmed it for Relu (opset 14)" in evidence[0]


@pytest.mark.parametrize(("known", "expected"), [(("Relu",), "exporter"), ((), None)])
def test_the_table_decides_whether_an_exported_file_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: Sequence[str], expected: str | None
) -> None:
    """The file contains another layer than the module, and there is no independent runtime to detect that."""
    only(monkeypatch, known)
    monkeypatch.setattr(file_runs, "INDEPENDENT_RUNTIMES", {})
    path = record(tmp_path / "net", one_node("Relu"), [X], [X]) / "model.onnx"
    reference = Reference({"x": X}, {"y": X}, {"y": X.astype(np.float64)}, (), (), stochastic=False)
    answer = {"y": np.maximum(X, 0)}
    blame, evidence = attribute(Disagreement(RELU, Artifact("onnx", path, ""), reference, answer, Tolerance(Exact())))
    assert blame == expected
    assert known or "no other runtime has confirmed it for Relu (opset 14)" in evidence[0]


def only(monkeypatch: pytest.MonkeyPatch, operators: Sequence[str]) -> None:
    """Believe these operators of ONNX and no others."""
    full = json.loads(TABLE.read_text(encoding="utf-8"))[""]
    monkeypatch.setattr(evaluator, "_table", lambda: {"": {name: full[name] for name in operators}})


def test_operators_in_subgraphs_and_functions_are_looked_up_too(tmp_path: Path) -> None:
    inner = helper.make_graph([helper.make_node("Unheard", ["x"], ["i"], domain="no.such")], "b", [], [])
    nodes = [
        helper.make_node("If", ["c"], ["t"], then_branch=inner, else_branch=inner),
        helper.make_node("Own", ["t"], ["y"], domain="mine"),
        helper.make_node("BatchNormalization", ["y", "s", "s", "s", "s"], ["z"]),
    ]
    model = graph(nodes, {"x": tensor()}, {"z": tensor()}, opset=6)
    model.opset_import.extend([helper.make_opsetid("mine", 1), helper.make_opsetid("no.such", 3)])
    body = [helper.make_node("Relu", ["a"], ["m"]), helper.make_node("Bernoulli", ["m"], ["b"])]
    model.functions.append(helper.make_function("mine", "Own", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    onnx.save(model, str(tmp_path / "model.onnx"))
    expected = ("no.such.Unheard (opset 1)", "BatchNormalization (opset 6)", "Bernoulli (opset 15)")
    assert not_believed(tmp_path / "model.onnx") == expected


def test_everyday_operators_are_believed() -> None:
    """Each operator that harness implements, and each that torch's exporters write for a common layer."""
    believed_names = {(domain, name) for domain, names in full_table().items() for name in names}
    implemented = {(operator.op_domain, operator.__name__) for operator in OPERATORS}
    never_run = {("com.microsoft", "SimplifiedLayerNormalization")}  # ONNX Runtime has it in ONNX's domain
    assert implemented - believed_names == never_run
    assert sum(len(versions) for names in full_table().values() for versions in names.values()) >= 400


def full_table() -> dict[str, dict[str, list[int]]]:
    table_and_versions = json.loads(TABLE.read_text(encoding="utf-8"))
    return {domain: names for domain, names in table_and_versions.items() if domain != "compared_with"}


def swept(*operators: str) -> list[Judgement]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sweep(lambda pair: pair.operator in operators, lambda _line: None)


def same_versions() -> bool:
    """Whether the table was made with the installed versions of the libraries."""
    made_with: dict[str, str] = json.loads(TABLE.read_text(encoding="utf-8"))["compared_with"]
    return all(installed_version(name) == version for name, version in made_with.items())


@pytest.mark.skipif(not same_versions(), reason="the table was made with other versions of onnx and onnxruntime")
def test_the_committed_table_equals_the_result_of_the_sweep() -> None:
    """For the operators that harness implements; `python -m benchmarks.operator_sweep` runs the whole sweep."""
    judgements = swept(*{operator.__name__ for operator in OPERATORS})
    assert [judgement.pair for judgement in judgements if judgement.state == "disagree"] == []
    confirmed = {
        (judgement.pair.domain, judgement.pair.operator, judgement.pair.since)
        for judgement in judgements
        if judgement.state == "agree"
    }
    implemented = {operator.__name__ for operator in OPERATORS}
    committed = {
        (domain, name, version)
        for domain, names in full_table().items()
        for name, versions in names.items()
        for version in versions
        if name in implemented
    }
    assert confirmed == committed


def test_a_wrong_evaluation_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    def off_by_a_tenth_of_a_percent(model: Any, inputs: Any) -> dict[str, Any]:
        return {name: values * 1.001 for name, values in evaluate_model(model, inputs).items()}

    monkeypatch.setattr(judging, "evaluate_model", off_by_a_tenth_of_a_percent)
    judgements = swept("Softmax")
    assert {judgement.state for judgement in judgements} == {"disagree"}
    assert "Softmax" not in json.loads(table(judgements)).get("", {})
    assert "- Softmax 13, softmax-default: " in markdown(judgements)


def test_shapes_and_missing_models_are_no_agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    def flattened(model: Any, inputs: Any) -> dict[str, Any]:
        return {name: values.reshape(-1) for name, values in evaluate_model(model, inputs).items()}

    monkeypatch.setattr(judging, "evaluate_model", flattened)
    assert {judgement.state for judgement in swept("Softmax")} == {"disagree"}
    assert Judgement(Pair("", "Unheard", 1, 1), ()).state == "not runnable"


def test_the_sweep_prints_its_result(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    before = TABLE.read_bytes()
    assert main(["--only", "GlobalMaxPool"]) == 0
    assert "GlobalMaxPool 1: agree\n  test_globalmaxpool" in capsys.readouterr().out
    monkeypatch.setattr(judging, "evaluate_model", lambda _model, _inputs: {"y": np.zeros(1)})
    assert main(["--only", "GlobalMaxPool"]) == 1
    assert "no longer believed: GlobalMaxPool 1 (disagree)" in capsys.readouterr().out
    assert TABLE.read_bytes() == before, "a part of the sweep writes nothing"
