"""``harness explain`` cuts the layer that fails out of the user's own model: a case, and a public script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
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
    with pytest.raises(NotCut, match="less than a script can show"):
        cut_nodes(artifact, target, {"image": np.ones_like(image)}, "y", None, tmp_path)


def test_a_node_of_integers_is_cut_out_with_no_error_allowed(tmp_path: Path) -> None:
    """ONNX does not say where the largest of NaN and numbers is, and ONNX Runtime does not choose NaN."""
    node = helper.make_node("ArgMax", ["x"], ["y"], axis=0, keepdims=0)
    signature = [helper.make_tensor_value_info("x", 1, [3])], [helper.make_tensor_value_info("y", 7, [])]
    model = helper.make_model(
        helper.make_graph([node], "g", *signature), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, str(tmp_path / "net.onnx"))
    artifact, x = Artifact("onnx", tmp_path / "net.onnx", ""), np.array([1, np.nan, 2], "float32")
    cut = cut_nodes(artifact, parse_target("file/ort-cpu"), {"x": x}, "y", None, tmp_path)
    assert (cut.expected.item(), cut.allowed) == (1, 0.0)


NORMALIZED = """
import torch
from torch import nn


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3))
"""


def normalized(path: Path, weights: dict[str, np.ndarray]) -> None:
    """The net as a file whose normalization is a function of its own, with another epsilon, in a branch of an If."""
    steps = [
        helper.make_node("ReduceMean", ["X"], ["mean"], axes=[-1]),
        helper.make_node("Sub", ["X", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "centred"], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["variance"], axes=[-1]),
        helper.make_node(
            "Constant", [], ["epsilon"], value=onnx.numpy_helper.from_array(np.array(1e-2, np.float32), "own")
        ),
        helper.make_node("Add", ["variance", "epsilon"], ["padded"]),
        helper.make_node("Sqrt", ["padded"], ["deviation"]),
        helper.make_node("Div", ["centred", "deviation"], ["Y"]),
    ]
    function = helper.make_function("own", "Norm", ["X"], ["Y"], steps, [helper.make_opsetid("", 17)])
    branches = [
        helper.make_graph([node], "branch", [], [helper.make_tensor_value_info(node.output[0], 1, [2, 8])])
        for node in (
            helper.make_node("Norm", ["up"], ["normalized"], domain="own"),
            helper.make_node("Neg", ["up"], ["negated"]),
        )
    ]
    for branch in branches:  # what exporters and their users write anywhere
        branch.output[0].doc_string = branch.node[0].doc_string = branch.doc_string = "own"
        branch.output[0].type.tensor_type.shape.dim[0].dim_param = "own"
    nodes = [
        helper.make_node("Gemm", ["x", "0.weight", "0.bias"], ["up"], transB=1),
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "least"], ["flag"]),
        helper.make_node("If", ["flag"], ["chosen"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Gemm", ["chosen", "2.weight", "2.bias"], ["y"], transB=1),
    ]
    ends = [helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", [2, 6]), ("y", [2, 3]))]
    stored = {name: values for name, values in weights.items() if name[0] != "1"} | {"least": np.float32(-1e9)}
    initializers = [onnx.numpy_helper.from_array(np.asarray(values), name) for name, values in stored.items()]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    onnx.save(helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=8), path)


def test_the_nodes_of_a_wrong_layer_of_a_given_file_are_cut_out_of_functions_and_branches(
    harness: Call, here: Path
) -> None:
    name = f"normalized_{here.name}"
    (here / f"{name}.py").write_text(NORMALIZED, encoding="utf-8")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 3))
    normalized(here / "given.onnx", {key: value.numpy() for key, value in net.state_dict().items()})
    saved = harness("compare", "given.onnx", f"{name}.py:net", "--shape", "x=2,6", "--save-spec", "asked.yaml")
    assert saved.code == 1, saved.err
    assert "one step at 1, " in saved.out
    ran = harness("explain", "given", "asked.yaml", "--allow-import", "--private")
    (nodes,) = (here / "reports" / "explain").glob("*")
    assert "given" not in nodes.name, "the folder is handed over"
    assert f"{nodes.relative_to(here)}/: 3 nodes with the tensors that reach them" in ran.out
    model = onnx.load(nodes / "model.onnx")
    assert [node.op_type for node in model.graph.node] == ["ReduceMax", "Greater", "If"]
    assert not model.functions, "the nodes of the function are shown themselves"
    assert b"own" not in (nodes / "model.onnx").read_bytes(), "names of domains and axes, and notes, are the user's"
    assert "| differs: 15 of 16 values" in ran.out
    ran = harness("run", str(nodes), "--targets", "ort-cpu", "--no-latency")
    assert (ran.code, ran.only["symptom"]) == (1, "mismatch")
