"""Tensors as arguments of a layer, such as the class weights of a loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Call

Spec = Callable[[str, str], Path]
INPUTS = "inputs: {x: {shape: [2, 3]}, target: {values: [0, 2], dtype: int64}}"
WEIGHTED = "{name: weighted, args: {weight: {values: [0.25, 1.0, 3.0]}}, " + INPUTS
TARGETS = "trace/torch-cpu,onnx-dynamo@18/ort-cpu"


def losses(*cases: str) -> str:
    return "\n  - ".join(["harness: 1\nlayer: CrossEntropyLoss\ncases:", *cases]) + "\n"


def test_class_weights_are_verified_and_change_the_answer(harness: Call, spec: Spec) -> None:
    other = "expect: {differs_from: {layer: CrossEntropyLoss}, formula: y + 0 * sum(weight)}}"
    as_list = WEIGHTED.replace("weighted", "list").replace("{values: [0.25, 1.0, 3.0]}", "[0.25, 1.0, 3.0]")
    same = "expect: {equals: {layer: CrossEntropyLoss, args: {weight: {values: [0.25, 1.0, 3.0]}}}}}"
    drawn = "{name: drawn, args: {weight: {shape: [3], fill: {uniform: [0.5, 2]}}}, " + INPUTS + "}"
    spec("loss.yaml", losses(f"{WEIGHTED}, {other}", f"{as_list}, {same}", drawn))
    ran = harness("run", "specs", "--no-latency", "--targets", TARGETS)
    assert [row["status"] for row in ran.report["results"]] == ["passed"] * 6


def test_a_layer_inside_a_graph_takes_a_tensor(harness: Call, spec: Spec) -> None:
    loss = "{layer: BCEWithLogitsLoss, args: {pos_weight: {values: [1, 2, 3]}}, in: [x, t], out: y}"
    inputs = "inputs: {x: {shape: [2, 3]}, t: {shape: [2, 3], fill: {choice: [0, 1]}}}"
    spec("loss.yaml", f"harness: 1\ncases: [{{name: a, graph: [{loss}], returns: y, {inputs}}}]\n")
    assert harness("run", "specs", "--no-latency", "--targets", "trace/torch-cpu").only["status"] == "passed"


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ("{values: [a, 1]}", "values: a is not a number; write one, such as 0.5"),
        ("[[1, 2], 3]", "values are ragged: no list here"),
        ("{fill: ones}", "a tensor without values and without a shape; give `values`, or a `shape` with a `fill`"),
        ("{vales: [1]}", "vales: unknown key; did you mean values?"),
        ("3", "weight: CrossEntropyLoss does not accept 3; write a tensor such as {values: [1, 2]} or null"),
        ("{values: [1.5], dtype: int64}", "1.5 does not fit int64"),
    ],
)
def test_what_is_no_tensor_is_told_with_its_place(harness: Call, spec: Spec, weight: str, message: str) -> None:
    path = spec("loss.yaml", losses(f"{{name: a, args: {{weight: {weight}}}, {INPUTS}}}"))
    ran = harness("check", str(path))
    assert ran.code == 2
    assert "loss.yaml:4:" in ran.err + ran.out
    assert message in ran.err + ran.out


def test_a_script_builds_the_tensor(spec: Spec) -> None:
    from harness.reproduction import reproduction
    from harness.spec.discovery import load_specs
    from harness.spec.targets import parse_target

    drawn = (
        "{name: drawn, args: {weight: {shape: [99], fill: {uniform: [0.5, 2]}}}, "
        + INPUTS.replace("3]", "99]", 1)
        + "}"
    )
    path = spec("loss.yaml", losses(WEIGHTED + "}", drawn))
    weighted, large = load_specs([str(path)], allow_import=False).cases
    target = parse_target("onnx-dynamo@18/ort-cpu")
    script = reproduction(weighted, target) or ""
    assert "nn.CrossEntropyLoss(weight=torch.tensor([0.25, 1.0, 3.0], dtype=torch.float32))" in script
    assert "def uniform(" in (reproduction(large, target) or "")


def test_a_smaller_case_can_be_found(spec: Spec) -> None:
    from harness.explain.simpler_models import simpler_arguments
    from harness.explain.simpler_tensors import complexity, smaller_numbers
    from harness.spec.discovery import load_specs

    path = spec("loss.yaml", losses(WEIGHTED + "}"))
    (case,) = load_specs([str(path)], allow_import=False).cases
    simpler = [
        each for each in (*simpler_arguments(case), *smaller_numbers(case)) if complexity(each) < complexity(case)
    ]
    assert any("weight" not in each.model.model.args for each in simpler)  # type: ignore[union-attr]
