"""Each hop is blamed for the errors that it makes, with evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from harness.blame.disagreement import Disagreement
from harness.blame.evaluator import evaluate
from harness.blame.other_targets import MAX_CASES, evidence_checks
from harness.check.cache.artifacts import ArtifactCache
from harness.check.check import check
from harness.check.module.prepared_case import PreparedCase
from harness.check.settings import Settings
from harness.check.stages import Clock
from harness.exporters import Artifact
from harness.result import Result
from harness.spec.discovery import load_specs
from harness.spec.language.tolerances import Scaled, Tolerance
from harness.spec.targets import parse_target
from tests.conftest import Call
from tests.runtime_models import FLOAT, onnx_file

AVERAGE = """
harness: 1
layer: AvgPool2d
cases:
  - {name: dropped-divisor, args: {kernel_size: 2, divisor_override: 3}, inputs: {x: {shape: [1, 2, 4, 4]}}}
"""
MAXIMUM = """
harness: 1
layer: MaxPool2d
cases:
  - name: lost-nan
    args: {kernel_size: [1, 2]}
    inputs: {x: {values: [[[[.nan, 1.0]]]]}}
  - name: indices-of-planes
    args: {kernel_size: 2, return_indices: true}
    inputs: {x: {shape: [2, 3, 4, 4]}}
"""
LINEAR = """
harness: 1
layer: Linear
cases:
  - {name: rounding, args: {in_features: 300, out_features: 40}, inputs: {x: {shape: [20, 300]}}, tolerance: {ulp: 0}}
"""
WRONG = """
harness: 1
layer: ReLU
cases:
  - {name: wrong-spec, inputs: {x: {values: [1.0, -1.0]}}, expect: {outputs: [{values: [1.0, -1.0]}]}}
"""


@pytest.fixture
def rows(harness: Call, spec: Callable[[str, str], Path]) -> dict[tuple[str, str], Any]:
    for name, text in (("average", AVERAGE), ("maximum", MAXIMUM), ("linear", LINEAR), ("wrong", WRONG)):
        spec(f"{name}.yaml", text)
    targets = "trace/torch-cpu,onnx-torchscript@17/ort-cpu,onnx-torchscript@17/reference"
    ran = harness("run", "specs", "--targets", targets, "--no-latency")
    assert ran.code == 1
    return {(case.split("/")[1], target.split("/")[1]): row for (case, target), row in ran.rows.items()}


def test_the_hop_that_caused_the_error_is_blamed(rows: dict[tuple[str, str], Any]) -> None:
    blamed = {check: row["blame"] for check, row in rows.items() if row["status"] == "failed"}
    assert blamed["dropped-divisor", "ort-cpu"] == "exporter"
    assert blamed["dropped-divisor", "reference"] == "exporter"
    assert blamed["lost-nan", "ort-cpu"] == "kernel"
    assert blamed["indices-of-planes", "reference"] == "kernel"
    assert blamed["rounding", "ort-cpu"] == "rounding"
    assert {blamed["wrong-spec", runtime] for runtime in ("torch-cpu", "ort-cpu", "reference")} == {"spec"}
    assert ("dropped-divisor", "torch-cpu") not in blamed
    assert ("indices-of-planes", "ort-cpu") not in blamed


def test_blame_comes_with_evidence(rows: dict[tuple[str, str], Any]) -> None:
    exporter = " ".join(rows["dropped-divisor", "ort-cpu"]["evidence"])
    assert "evaluated in float64, the exported file itself is wrong" in exporter
    assert "the same case passes on trace/torch-cpu" in exporter
    assert "the same case also fails on onnx-torchscript@17/reference (compare: mismatch)" in exporter
    kernel = " ".join(rows["lost-nan", "ort-cpu"]["evidence"])
    assert "the exported file itself gives the right answer" in kernel
    assert "graph optimization off" in kernel


def test_the_other_exporter_and_another_opset_are_checked_without_being_requested(
    harness: Call, spec: Callable[[str, str], Path]
) -> None:
    spec("average.yaml", AVERAGE)
    spec("wrong.yaml", WRONG)
    ran = harness("run", "specs", "--targets", "onnx-torchscript@17/ort-cpu", "--no-latency")
    assert len(ran.rows) == 2, "evidence checks add no rows"
    evidence = " ".join(ran.rows["average/dropped-divisor", "onnx-torchscript@17/ort-cpu"]["evidence"])
    assert "the same case also fails on onnx-dynamo@18/ort-cpu" in evidence
    assert "onnx-torchscript@20/ort-cpu (compare: mismatch)" in evidence
    settled = " ".join(ran.rows["wrong/wrong-spec", "onnx-torchscript@17/ort-cpu"]["evidence"])
    assert "onnx-dynamo" not in settled, "another export would add no evidence"


def test_evidence_checks_were_not_requested_and_are_never_corrected() -> None:
    case, target = load_specs(["specs/relu.yaml"]).cases[0], parse_target("onnx-dynamo@23+fixes/ort-cpu")
    wrong = Result(case.id, str(target), "failed", "compare", "mismatch", blame="kernel")

    def chosen(*requested: str, row: Result = wrong) -> list[str]:
        work = evidence_checks(((case, (target, *map(parse_target, requested))),), [row])
        return [str(other) for _, targets in work for other in targets]

    assert chosen() == ["onnx-torchscript@20/ort-cpu", "onnx-dynamo@20/ort-cpu"]
    assert chosen("onnx-torchscript@17/ort-cpu") == ["onnx-dynamo@20/ort-cpu"]
    assert chosen("onnx-torchscript@17/ort-cpu", "onnx-dynamo@18/ort-cpu") == []
    assert chosen(row=replace(wrong, status="known")) == []
    assert chosen(row=replace(wrong, blame="rounding")) == []
    many = tuple((replace(case, id=f"a/{at}"), (target,)) for at in range(MAX_CASES + 5))
    assert len(evidence_checks(many, [replace(wrong, case=other.id) for other, _ in many])) == MAX_CASES


@settings(max_examples=25)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    ceil=st.booleans(),
    average=st.booleans(),
    padded=st.booleans(),
    seed=st.integers(0, 9),
)
def test_the_float64_evaluation_of_pooling_is_right(
    tmp_path_factory: pytest.TempPathFactory,
    kernel: tuple[int, int],
    stride: int,
    ceil: bool,
    average: bool,
    padded: bool,
    seed: int,
) -> None:
    """It decides between exporter and kernel, so it must be right even if ``onnx.reference`` is wrong."""
    padding = (kernel[0] // 2, kernel[1] // 2) if padded else 0
    module: torch.nn.Module = (
        torch.nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=seed % 2 == 0)
        if average
        else torch.nn.MaxPool2d(kernel, stride, padding, return_indices=True, ceil_mode=ceil)
    )
    x = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(seed))
    answer = module(x)
    path = tmp_path_factory.mktemp("pool") / "m.onnx"
    torch.onnx.export(module, (x,), path, dynamo=False, opset_version=17, input_names=["x"])
    outputs = list(evaluate(path, {"x": x.numpy()}).values())
    eager = answer if isinstance(answer, tuple) else (answer,)
    for actual, expected in zip(outputs, eager, strict=True):
        assert actual.dtype in (np.float64, np.int64)
        np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_two_wrong_answers_of_the_same_other_shape_can_be_compared(tmp_path: Path) -> None:
    """The reference's magnitudes fit only the shape of the reference."""
    reference: Any = SimpleNamespace(
        eager={"y": np.ones((2, 3))}, magnitudes=(np.ones((2, 3)),), undefined=(None,), narrow={}
    )
    artifact = Artifact("onnx", tmp_path / "none.onnx", "digest", 17)
    wrong = {"y": np.ones((3, 4))}
    disagreement = Disagreement(
        parse_target("onnx-torchscript@17/ort-cpu"), artifact, reference, wrong, Tolerance(Scaled(2)), bool
    )
    assert disagreement.compare(wrong, {"y": np.ones((3, 4))}).passed
    assert not disagreement.compare(wrong, {"y": np.full((3, 4), 2.0)}).passed
    assert not disagreement.compare(wrong, reference.eager).passed


FORMULA = """
harness: 1
layer: LeakyReLU
cases:
  - name: transposed
    args: {negative_slope: 0.25}
    inputs: {x: {shape: [4, 9]}}
    expect: {formula: 'abs(y - where(x > 0, x, x / 4)) < 1.0e-6'}
"""


def test_an_answer_of_another_shape_is_blamed_though_the_formula_cannot_be_evaluated_on_it(
    spec: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (case,) = load_specs([str(spec("transposed.yaml", FORMULA))], allow_import=False).cases
    nodes = [
        helper.make_node("LeakyRelu", ["x"], ["r"], alpha=0.25),
        helper.make_node("Transpose", ["r"], ["output_0"]),
    ]
    transposed = onnx_file(tmp_path / "t.onnx", nodes, [("x", FLOAT, [4, 9])], [("output_0", FLOAT, ["a", "b"])])
    prepared = PreparedCase(case, ArtifactCache(None, tmp_path))
    monkeypatch.setattr(prepared, "artifact", lambda _target: transposed)
    result = check(prepared, parse_target("onnx-torchscript@17/ort-cpu"), Settings(latency=False), Clock())
    assert (result.status, result.symptom, result.blame) == ("failed", "mismatch", "exporter")
    assert "with graph optimization off the same file gives the same wrong answer" in result.evidence


PLANE = """
harness: 1
layer: MaxPool2d
cases:
  - {name: without-a-batch, args: {kernel_size: 3, stride: 2}, inputs: {x: {shape: [3, 7, 8]}}}
"""


def test_an_invalid_onnx_file_is_not_run_on_another_runtime(harness: Call, spec: Callable[[str, str], Path]) -> None:
    """tract ends the process on such a file, so the row would report a crash that the target did not have."""
    spec("pool.yaml", PLANE)
    row = harness("run", "specs", "--targets", "onnx-torchscript@17/reference", "--no-latency", "-j", "1").only
    assert (row["stage"], row["symptom"], row["blame"]) == ("compare", "mismatch", None)
    assert "no other runtime was tried because onnx.checker rejects the file" in " ".join(row["evidence"])
