"""Scripts: they build the same model and the same inputs, do not import harness, and describe the failure."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.errors import Location
from harness.model.build import build, build_tensors
from harness.model.running import eager_outputs
from harness.model.tensors import to_numpy
from harness.reproduction import reproduction, why_no_script
from harness.result import Result
from harness.spec.discovery import load_specs
from harness.spec.language.case import Case, Expectation, Fill, LayerModel, TensorSpec, WeightedModel
from harness.spec.targets import parse_target
from tests.conftest import Call

ALLOWED_IMPORTS = {
    "atexit",
    "copy",
    "ctypes",
    "platform",
    "shutil",
    "sys",
    "tempfile",
    "pathlib",
    "numpy",
    "onnx",
    "onnx.reference",
    "onnxruntime",
    "torch",
}
TARGETS = ("trace/torch-cpu", "script/torch-cpu", "onnx-torchscript@17/ort-cpu", "onnx-dynamo@23/reference")
FILLS = st.sampled_from(
    [
        *(Fill("normal"), Fill("uniform", (-2.5, 1.0)), Fill("integers", (-4, 9)), Fill("choice", (-1.5, 0.0, 2.0))),
        *(Fill("ones"), Fill("zeros"), Fill("full", (0.3,)), Fill("arange")),
    ]
)


@cache
def shipped() -> tuple[Case, ...]:
    return load_specs(["specs"]).cases


def case_of(spec: TensorSpec, **model: Any) -> Case:
    return Case("a/case", "", WeightedModel(LayerModel("ReLU"), **model), (spec,), Location("a.yaml"))


def namespace(text: str) -> dict[str, Any]:
    """The variables of the script once it has its model and its inputs."""
    tree = ast.parse(text)
    ends = [at for at, node in enumerate(tree.body) if isinstance(node, ast.Assign) and names(node) == ["path"]]
    statements = [
        node
        for node in tree.body[: ends[0]]
        if not isinstance(node, ast.Expr | ast.For) or "print" not in ast.dump(node)
    ]
    variables: dict[str, Any] = {"__name__": "script"}
    exec(compile(ast.Module(statements, []), "script.py", "exec"), variables)
    return variables


def names(node: ast.Assign) -> list[str]:
    return [target.id for target in node.targets if isinstance(target, ast.Name)]


@pytest.mark.parametrize("target", TARGETS)
def test_every_shipped_case_has_a_script_that_does_not_import_harness(target: str) -> None:
    for case in shipped()[::9]:
        text = reproduction(case, parse_target(target))
        if text is None:
            assert "NumPy has no bfloat16" in (why_no_script(case, parse_target(target)) or ""), case.id
            continue
        imported = {
            name
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
        }
        assert imported <= ALLOWED_IMPORTS, case.id
        assert "harness" not in text.replace(str(case.id), ""), case.id


def test_the_model_of_a_script_has_the_outputs_of_the_case() -> None:
    target = parse_target("trace/torch-cpu")
    for case in [case for case in shipped() if case.expect.raises is None][::15]:
        variables = namespace(reproduction(case, target) or "")
        subject = build(case)
        for actual, expected in zip(variables["inputs"], subject.inputs.values(), strict=True):
            np.testing.assert_array_equal(to_numpy(actual), to_numpy(expected))
        script_outputs = eager_outputs(variables["model"], variables["inputs"], case.seed)
        case_outputs = eager_outputs(subject.module, list(subject.inputs.values()), case.seed)
        for actual, expected in zip(script_outputs, case_outputs, strict=True):
            np.testing.assert_array_equal(to_numpy(actual), to_numpy(expected), err_msg=case.id)


@settings(max_examples=80)
@example(
    Fill("normal"), (100,), "float16", "contiguous", 940_122_814_564_587_520
)  # fails if float64 is rounded to float32 first
@given(
    fill=FILLS,
    shape=st.sampled_from([(3,), (2, 0), (1, 2, 3, 4), (2, 3, 4, 5), (100,)]),
    dtype=st.sampled_from(["float32", "float64", "float16", "int64", "uint8"]),
    layout=st.sampled_from(["contiguous", "channels_last", "strided"]),
    seed=st.integers(0, 2**62),
)
def test_inputs_are_the_same_bits(fill: Fill, shape: tuple[int, ...], dtype: str, layout: Any, seed: int) -> None:
    if (dtype == "uint8" and fill.kind in {"integers", "choice"}) or (
        "int" in dtype and fill.kind in {"uniform", "full"}
    ):
        return
    if fill.kind == "choice" and dtype == "int64":
        fill = Fill("choice", (-3, 0, 7))
    spec = TensorSpec("x", dtype, shape, None, fill, layout, seed)
    variables = namespace(reproduction(case_of(spec), parse_target("trace/torch-cpu")) or "")
    (actual,), (expected,) = variables["inputs"], build_tensors([spec]).values()
    assert actual.dtype == expected.dtype
    assert torch.equal(actual.reshape(-1), expected.reshape(-1))
    assert actual.stride() == expected.stride() or actual.numel() == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -0.0, 1e-45, 3.4028235e38, 0.1])
def test_literal_values_are_the_same_bits(value: float) -> None:
    spec = TensorSpec("x", "float32", (2,), (value, 1.0))
    variables = namespace(reproduction(case_of(spec), parse_target("trace/torch-cpu")) or "")
    actual, expected = variables["inputs"][0].numpy(), next(iter(build_tensors([spec]).values())).numpy()
    assert actual.tobytes() == expected.tobytes()


def test_a_check_without_a_script_has_a_reason() -> None:
    case, failed = shipped()[0], Result("a", "t", "failed", "compare", "mismatch")
    stock = parse_target("onnx-dynamo@23/ort-cpu")
    assert why_no_script(case, stock, failed) is None
    for target in ("onnx-dynamo@23+fixes/ort-cpu", "onnx-dynamo@23/openvino"):
        assert why_no_script(case, parse_target(target))
        assert reproduction(case, parse_target(target)) is None
    assert why_no_script(case, stock, replace(failed, blame="spec"))
    assert why_no_script(case, stock, replace(failed, blame="torch"))
    assert why_no_script(case, stock, replace(failed, symptom="timeout"))


def test_the_docstring_describes_the_failure() -> None:
    case = next(case for case in shipped() if case.id == "avgpool2d/notes-divisor-override")
    result = Result(case.id, "t", "failed", "compare", "mismatch", "1.0, expected 1.33", "exporter")
    text = reproduction(case, parse_target("onnx-dynamo@23/ort-cpu"), result) or ""
    docstring = (ast.get_docstring(ast.parse(text)) or "").replace("\n", " ")
    assert docstring.startswith(
        "torch.onnx.export(dynamo=True) at opset 23 returns different outputs than eager PyTorch"
    )
    assert "AvgPool2d(kernel_size=(2, 2), stride=(2, 2), divisor_override=3)" in docstring
    assert "Expected: the same outputs as eager PyTorch." in docstring
    assert "Actual: 1.0, expected 1.33" in docstring


def test_a_script_for_an_expected_error_fails_if_there_are_outputs() -> None:
    case = replace(shipped()[0], expect=Expectation(raises="too small"))
    text = reproduction(case, parse_target("onnx-dynamo@23/ort-cpu")) or ""
    assert "the exported model returns outputs, but eager PyTorch raises an error" in text


def test_the_script_of_tiny_outputs_does_not_pass_by_an_atol(harness: Call, spec: Callable[[str, str], Path]) -> None:
    """Outputs of 1e-7: the defaults of assert_close would accept anything."""
    spec(
        "pool.yaml",
        "harness: 1\nsequential: [{layer: AvgPool2d, args: {kernel_size: 2, divisor_override: 3}}, {layer: Tanh}]\n"
        "cases: [{name: tiny, inputs: {x: {shape: [1, 1, 4, 4], fill: {full: 1.0e-7}}}}]\n",
    )
    ran = harness("explain", "tiny", "--target", "onnx-dynamo@18/ort-cpu", "specs")
    assert "was run and reproduces the failure (exit code 1)" in ran.out
