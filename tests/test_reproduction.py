"""Scripts: they build the very model and the very inputs, import nothing of harness, and say what is wrong."""

from __future__ import annotations

import ast
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.errors import Location
from harness.model.build import build, build_tensors, eager_outputs
from harness.model.tensors import to_numpy
from harness.reproduction import obstacle, reproduction
from harness.result import Result
from harness.spec.discovery import load_specs
from harness.spec.language.case import Case, Expectation, Fill, LayerModel, TensorSpec, WeightedModel
from harness.spec.targets import parse_target

ALLOWED = {
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
    """What the script has defined by the time it has its model and its inputs."""
    tree = ast.parse(text)
    ends = [at for at, node in enumerate(tree.body) if isinstance(node, ast.Assign) and names(node) == ["path"]]
    quiet = [
        node
        for node in tree.body[: ends[0]]
        if not isinstance(node, ast.Expr | ast.For) or "print" not in ast.dump(node)
    ]
    made: dict[str, Any] = {"__name__": "script"}
    exec(compile(ast.Module(quiet, []), "script.py", "exec"), made)
    return made


def names(node: ast.Assign) -> list[str]:
    return [target.id for target in node.targets if isinstance(target, ast.Name)]


@pytest.mark.parametrize("target", TARGETS)
def test_every_shipped_case_has_a_script_that_imports_nothing_of_harness(target: str) -> None:
    for case in shipped()[::9]:
        text = reproduction(case, parse_target(target))
        if text is None:
            assert "NumPy has no bfloat16" in (obstacle(case, parse_target(target)) or ""), case.id
            continue
        imported = {
            name
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
        }
        assert imported <= ALLOWED, case.id
        assert "harness" not in text.replace(str(case.id), ""), case.id


def test_the_scripts_model_answers_as_the_cases() -> None:
    target = parse_target("trace/torch-cpu")
    for case in [case for case in shipped() if case.expect.raises is None][::15]:
        made = namespace(reproduction(case, target) or "")
        subject = build(case)
        for given_, wanted in zip(made["inputs"], subject.inputs.values(), strict=True):
            np.testing.assert_array_equal(to_numpy(given_), to_numpy(wanted))
        script = eager_outputs(made["model"], made["inputs"], case.seed)
        own = eager_outputs(subject.module, list(subject.inputs.values()), case.seed)
        for one, other in zip(script, own, strict=True):
            np.testing.assert_array_equal(to_numpy(one), to_numpy(other), err_msg=case.id)


@settings(max_examples=80)
@example(Fill("normal"), (100,), "float16", "contiguous", 940_122_814_564_587_520)  # once rounded by way of float32
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
    made = namespace(reproduction(case_of(spec), parse_target("trace/torch-cpu")) or "")
    (held,), (wanted,) = made["inputs"], build_tensors([spec]).values()
    assert held.dtype == wanted.dtype
    assert torch.equal(held.reshape(-1), wanted.reshape(-1))
    assert held.stride() == wanted.stride() or held.numel() == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -0.0, 1e-45, 3.4028235e38, 0.1])
def test_literal_values_are_the_same_bits(value: float) -> None:
    spec = TensorSpec("x", "float32", (2,), (value, 1.0))
    made = namespace(reproduction(case_of(spec), parse_target("trace/torch-cpu")) or "")
    held, wanted = made["inputs"][0].numpy(), next(iter(build_tensors([spec]).values())).numpy()
    assert held.tobytes() == wanted.tobytes()


def test_what_cannot_be_written_is_said() -> None:
    case, failed = shipped()[0], Result("a", "t", "failed", "compare", "mismatch")
    stock = parse_target("onnx-dynamo@23/ort-cpu")
    assert obstacle(case, stock, failed) is None
    for target in ("onnx-dynamo@23+fixes/ort-cpu", "onnx-dynamo@23/openvino"):
        assert obstacle(case, parse_target(target))
        assert reproduction(case, parse_target(target)) is None
    assert obstacle(case, stock, replace(failed, blame="spec"))
    assert obstacle(case, stock, replace(failed, blame="torch"))
    assert obstacle(case, stock, replace(failed, symptom="timeout"))


def test_the_text_speaks_of_what_was_seen() -> None:
    case = next(case for case in shipped() if case.id == "avgpool2d/notes-divisor-override")
    seen = Result(case.id, "t", "failed", "compare", "mismatch", "1.0 where 1.33 is expected", "exporter")
    text = reproduction(case, parse_target("onnx-dynamo@23/ort-cpu"), seen) or ""
    about = (ast.get_docstring(ast.parse(text)) or "").replace("\n", " ")
    assert about.startswith("torch.onnx.export(dynamo=True) at opset 23 gives a different answer than eager PyTorch")
    assert "AvgPool2d(kernel_size=(2, 2), stride=(2, 2), divisor_override=3)" in about
    assert "Expected: the same answer as eager PyTorch." in about
    assert "Actual: 1.0 where 1.33 is expected" in about


def test_an_error_that_must_be_raised_is_what_the_script_waits_for() -> None:
    case = replace(shipped()[0], expect=Expectation(raises="too small"))
    text = reproduction(case, parse_target("onnx-dynamo@23/ort-cpu")) or ""
    assert "the exported model answers where eager PyTorch raises" in text
