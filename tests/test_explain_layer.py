"""``harness explain`` cuts the layer that fails out of the user's own model: a case, and a public script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.errors import Location
from harness.explain.failing_layer import CutLayer, FailingLayer, find_failing_layer
from harness.exporters import Artifact
from harness.inside.nodes.cut import NotCut, cut_nodes
from harness.result import Layer, Result
from harness.spec.language.case import Case, LayerModel, WeightedModel
from harness.spec.targets import parse_target
from tests.conftest import Call

NET = """
import torch
from torch import nn


class Private(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.body = nn.Sequential(nn.ReLU(), nn.AvgPool2d(3, 1, 1, divisor_override=5), nn.Conv2d(4, 4, 1))

    def forward(self, image):
        return self.body(self.stem(image)).mean((2, 3))

"""
SPEC = """
harness: 1
cases:
  - {name: private, factory: NET:Private, inputs: {image: {shape: [1, 3, 6, 6]}}}
"""
POOL = """
harness: 1
cases:
  - name: secret
    layer: MaxPool2d
    args: {kernel_size: 2}
    inputs: {x: {values: [[[[.nan, 1.0], [1.0, 1.0]]]]}}
"""


def test_the_layer_of_a_private_model_that_fails_alone_becomes_a_case_and_a_public_script(
    harness: Call, spec: Callable[[str, str], Path], here: Path
) -> None:
    name = f"net_{here.name}"
    (here / f"{name}.py").write_text(NET, encoding="utf-8")
    spec("net.yaml", SPEC.replace("NET", name))
    words = ("--allow-import", "--target", "onnx-torchscript@17/ort-cpu", "--budget", "3")
    ran = harness("explain", "private", *words)
    assert ran.code == 1, ran.err
    lines = ran.out.splitlines()
    at = lines.index("Failing layer")
    assert lines[at + 1] == (
        "  body.1: AvgPool2d(kernel_size=3, stride=1, padding=1, divisor_override=5) fails alone (compare: mismatch)"
    )
    assert "  model = nn.AvgPool2d(" in ran.out.partition("Smallest case")[2]
    script = (here / "reports" / "explain" / "net-private.py").read_text()
    assert "AvgPool2d" in script
    assert "Private" not in script
    assert "was run and reproduces the failure" in ran.out
    nodes = here / "reports" / "explain" / "net-private-nodes"
    assert "Failing nodes\n  reports/explain/net-private-nodes/: 1 node with the tensors that reach it\n" in ran.out
    assert len((nodes / "run.py").read_text().splitlines()) < 35
    assert b"body" not in (nodes / "model.onnx").read_bytes(), "exporters write the paths of modules"
    ran = harness("run", str(nodes), "--targets", "ort-cpu", "--no-latency")
    assert (ran.code, ran.only["symptom"]) == (1, "mismatch")


def test_a_kernel_is_shown_with_its_tensors_and_nothing_else_of_a_private_model(
    harness: Call, spec: Callable[[str, str], Path], here: Path
) -> None:
    spec("pool.yaml", POOL)
    ran = harness("explain", "secret", "--target", "onnx-torchscript@17/ort-cpu", "--private", "-o", "out/issue.py")
    assert ran.code == 1, ran.err
    assert ran.out.splitlines()[:2] == [
        "onnx-torchscript@17/ort-cpu: failed",
        "out/issue-nodes/: 1 node with the tensors that reach it",
    ]
    assert ran.out.splitlines()[-1].startswith("| differs: ")
    assert "secret" not in ran.out
    assert sorted(path.name for path in (here / "out").rglob("*") if path.is_file()) == [
        "input_0.pb", "model.onnx", "output_0.pb", "run.py",
    ]  # fmt: skip


@pytest.mark.parametrize("stock", [True, False], ids=["a layer", "no layer"])
def test_the_first_layer_that_fails_like_the_model_is_found_and_otherwise_it_is_said_that_none_does(
    stock: bool,
) -> None:
    layers = tuple(
        CutLayer(path, replace(case, id=path), replace(case, id=f"{path} exact"))
        for case in [Case("", "", WeightedModel(LayerModel("ReLU")), (), Location(""))]
        for path in ("stem", "body", "head")
    )
    failure = Result(
        "net", "trace/torch-cpu", "failed", "compare", "mismatch", layers=(Layer("head", "ReLU", 0, wrong=True),)
    )
    order = []

    def check(case: Case) -> Result:
        order.append(case.id)
        if case.id == "body" and stock:
            return replace(failure, case=case.id)
        if case.id == "stem":  # it fails otherwise
            return Result(case.id, "trace/torch-cpu", "error", "export", "exception")
        return Result(case.id, "trace/torch-cpu", "passed")

    found = find_failing_layer(layers, failure, check, 60.0)
    assert order[:3] == ["head", "head exact", "stem"], "a layer that is wrong in the table comes first"
    if stock:
        assert isinstance(found, FailingLayer)
        assert (found.path, len(order)) == ("body", 4)
    else:
        assert (found, len(order)) == ("none of 3 layer configurations fails alone", 6)
    assert "the time is over" in str(find_failing_layer(layers, failure, check, 0.0))


def test_nodes_with_inner_graphs_are_cut_with_what_these_take_from_outside(tmp_path: Path) -> None:
    pool = helper.make_node("MaxPool", ["secret.x"], ["secret.pooled"], kernel_shape=[2, 2], name="secret.pool")
    same = helper.make_node("MaxPool", ["secret.x"], ["secret.same"], kernel_shape=[2, 2])
    branches = [
        helper.make_graph([node], "branch", [], [helper.make_tensor_value_info(node.output[0], 1, None)])
        for node in (pool, same)
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Neg", ["image"], ["secret.x"]),
            helper.make_node("If", ["secret.flag"], ["y"], then_branch=branches[0], else_branch=branches[1]),
        ],
        "secret",
        [helper.make_tensor_value_info("image", 1, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("y", 1, [1, 1, 1, 1])],
        [helper.make_tensor(name="secret.flag", data_type=9, dims=[], vals=[True])],
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    artifact, target = Artifact("onnx", path, ""), parse_target("file/ort-cpu")
    image = np.array([[[[np.nan, 1], [1, 1]]]], "float32")
    cut = cut_nodes(artifact, target, {"image": image}, "y", None, tmp_path)
    assert list(cut.inputs) == ["input_0"]
    assert np.array_equal(cut.inputs["input_0"], -image, equal_nan=True), "as it arrives"
    assert np.isnan(cut.expected).all()
    assert b"secret" not in cut.model.SerializeToString()
    onnx.checker.check_model(cut.model, full_check=True)
    with pytest.raises(NotCut, match="no more than rounding"):
        cut_nodes(artifact, target, {"image": np.ones_like(image)}, "y", None, tmp_path)
