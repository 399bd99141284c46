"""The walk through an exported graph ends at the modified node and names its module."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from harness.blame.evaluator import evaluate, evaluate_all
from harness.data_files.onnx_files import read_model
from harness.exporters import Artifact
from harness.inside.nodes.divergence import Walk
from harness.inside.nodes.matching import module_of, with_all_values_as_outputs
from harness.inside.nodes.torch_calls import module_calls
from harness.inside.nodes.walk import walk
from harness.model.answer import Reference
from harness.model.build import Subject
from harness.model.tensors import to_numpy
from harness.registry import plugins
from harness.spec.targets import parse_target

# The exporters' warnings are not tested here.
pytestmark = pytest.mark.filterwarnings("ignore:::torch", "ignore:::copyreg", "ignore::torch.jit.TracerWarning")
EXPORTERS = ("onnx-torchscript@17", "onnx-dynamo@18")


class Block(nn.Module):
    """A nested module with one layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Sequential(nn.Sigmoid(), nn.Conv2d(2, 2, 1)))
        self.act = nn.Tanh()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.act(self.body(self.act(x)))
        return answer


class Net(nn.Module):
    """Two blocks and a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.pool = nn.MaxPool2d(2, return_indices=True)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for block in self.blocks:
            x = block(x)
        answer: tuple[torch.Tensor, torch.Tensor] = self.pool(x)
        return answer


def subject_of(module: nn.Module, x: torch.Tensor) -> Subject:
    torch.manual_seed(1)
    answer = module.eval()(x.clone())
    return Subject(module, {"x": x}, outputs=len(answer) if isinstance(answer, tuple) else 1)


def export(
    subject: Subject, exporter: str, folder: Path, edit: Callable[[Any], None] = lambda _model: None
) -> Artifact:
    target = parse_target(f"{exporter}/ort-cpu")
    artifact = plugins("exporters")[target.exporter].export(
        subject, folder / "model.onnx", opset=target.opset, fixes=False
    )
    model = onnx.load(artifact.path)
    edit(model)
    onnx.save(model, artifact.path)
    assert isinstance(artifact, Artifact)
    return artifact


def walked(subject: Subject, artifact: Artifact, exporter: str, folder: Path) -> Walk:
    inputs = {label: to_numpy(tensor) for label, tensor in subject.inputs.items()}
    eager = subject.module(*(tensor.clone() for tensor in subject.inputs.values()))
    answers = {
        f"output_{index}": to_numpy(tensor)
        for index, tensor in enumerate(eager if isinstance(eager, tuple) else (eager,))
    }
    reference = Reference(inputs, answers, None, (), (), stochastic=False)
    return walk(subject, artifact, parse_target(f"{exporter}/ort-cpu"), [reference], folder)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_right_graph_does_not_diverge_and_every_module_is_matched(
    exporter: str, image: torch.Tensor, tmp_path: Path
) -> None:
    subject = subject_of(Net(), image)
    result = walked(subject, export(subject, exporter, tmp_path), exporter, tmp_path)
    assert result.modules == 11
    assert result.matched == 11
    assert result.module is None or result.module.rounding
    assert result.kernel is None or result.kernel.rounding
    assert result.note is None


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_replaced_node_is_the_first_that_differs_from_torch(
    exporter: str, image: torch.Tensor, tmp_path: Path
) -> None:
    def tamper(model: Any) -> None:
        sigmoids = [node for node in model.graph.node if node.op_type == "Sigmoid"]
        sigmoids[1].op_type = "Relu"

    subject = subject_of(Net(), image)
    result = walked(subject, export(subject, exporter, tmp_path, tamper), exporter, tmp_path)
    assert result.module is not None
    assert result.module.node.op_type == "Relu"
    assert result.module.module == "blocks.1.body.1.0 (Sigmoid)"
    assert result.module.matched_by == "the exporter's scope names"
    assert result.module.siblings == (), "a module of one node"
    assert not result.module.rounding
    assert "by more than the tolerance" in result.module.difference
    assert result.kernel is None or result.kernel.rounding, "the graph computes what it defines"


class NegatedRelu(nn.Module):
    """A module without modules that is exported as two nodes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -torch.relu(x)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_all_nodes_of_the_wrong_module_are_named_if_there_are_several(
    exporter: str, image: torch.Tensor, tmp_path: Path
) -> None:
    def tamper(model: Any) -> None:
        next(node for node in model.graph.node if node.op_type == "Neg").op_type = "Abs"

    subject = subject_of(nn.Sequential(nn.Sigmoid(), NegatedRelu(), nn.Sigmoid()), image)
    result = walked(subject, export(subject, exporter, tmp_path, tamper), exporter, tmp_path)
    assert result.module is not None
    assert result.module.node.op_type == "Abs"
    assert [node.op_type for node in result.module.siblings] == ["Relu", "Abs"]


def test_a_kernel_that_loses_nan_differs_from_the_graph_itself(tmp_path: Path) -> None:
    module = nn.Sequential(nn.ReLU(), nn.MaxPool2d((1, 2)), nn.Flatten())
    subject = subject_of(module, torch.tensor([[[[float("nan"), 1.0, 2.0, 3.0]]]]))
    artifact = export(subject, EXPORTERS[0], tmp_path)
    result = walked(subject, artifact, EXPORTERS[0], tmp_path)
    assert result.kernel is not None
    assert result.kernel.node.op_type == "MaxPool"
    assert "kernel_shape=[1, 2]" in result.kernel.node.attributes
    assert "expected NaN" in result.kernel.difference
    assert result.kernel.module == "1 (MaxPool2d)"


class Long(nn.Module):
    """Long float32 sums with accumulated rounding, before a divisor that the exporters drop."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 32, 32)
        self.features = nn.Sequential(
            *(
                layer
                for one, other in pairwise(widths)
                for layer in (nn.Conv2d(one, other, 7, padding=3), nn.BatchNorm2d(other), nn.ReLU())
            )
        )
        self.pool = nn.AvgPool2d(2, divisor_override=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.pool(self.features(x))
        return answer


@pytest.fixture
def long() -> Subject:
    torch.manual_seed(5)
    module = Long()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.load_state_dict({"running_mean": torch.randn(layer.num_features)}, strict=False)
    return subject_of(module, 30 * torch.randn(1, 3, 24, 24))


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_rounding_of_long_sums_does_not_hide_a_wrongly_exported_node(
    exporter: str, long: Subject, tmp_path: Path
) -> None:
    result = walked(long, export(long, exporter, tmp_path), exporter, tmp_path)
    assert result.module is not None
    assert result.module.node.op_type == "AveragePool"
    assert result.module.module == "pool (AvgPool2d)"
    assert not result.module.rounding
    assert result.kernel is None or result.kernel.rounding


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_batch_normalization_folded_into_its_convolution_is_not_a_divergence(
    exporter: str, long: Subject, tmp_path: Path
) -> None:
    long.module.pool = nn.AvgPool2d(2)
    artifact = export(long, exporter, tmp_path)
    kinds = {node.op_type for node in onnx.load(artifact.path).graph.node}
    assert "BatchNormalization" not in kinds, "the exporter folds it, or this test tests nothing"
    result = walked(long, artifact, exporter, tmp_path)
    assert result.module is None or result.module.rounding
    assert result.matched == 7, "all but the three convolutions, whose outputs are not in the graph"


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_folded_batch_normalization_in_half_precision_does_not_hide_a_fault_behind_it(
    exporter: str, tmp_path: Path
) -> None:
    """The folded weights were rounded to float16, so every value behind them is off by more than float32 allows."""

    def tamper(model: Any) -> None:
        next(node for node in model.graph.node if node.op_type == "Sigmoid").op_type = "HardSigmoid"

    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    for layer in module:
        if isinstance(layer, nn.BatchNorm2d):
            layer.load_state_dict({"running_mean": torch.randn(8), "running_var": torch.rand(8) + 0.1}, strict=False)
    module.append(nn.Sigmoid()).append(nn.AvgPool2d(2))
    subject = subject_of(module.half(), torch.randn(1, 3, 10, 10).half())
    right = walked(subject, export(subject, exporter, tmp_path), exporter, tmp_path)
    assert right.module is None or right.module.rounding
    wrong = walked(subject, export(subject, exporter, tmp_path, tamper), exporter, tmp_path)
    assert wrong.module is not None
    assert (wrong.module.node.op_type, wrong.module.module) == ("HardSigmoid", "5 (Sigmoid)")
    assert not wrong.module.rounding


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_wrong_folded_weight_is_located(exporter: str, long: Subject, tmp_path: Path) -> None:
    def tamper(model: Any) -> None:
        weight = next(each for each in model.graph.initializer if list(each.dims) == [32, 32, 7, 7])
        values = onnx.numpy_helper.to_array(weight).copy()
        values[5] *= 1.001
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))

    result = walked(long, export(long, exporter, tmp_path, tamper), exporter, tmp_path)
    assert result.module is not None
    assert result.module.node.op_type in {"Conv", "Relu"}
    assert not result.module.rounding
    assert result.module.module is not None
    assert result.module.module.startswith(("features.6", "features.7"))


def test_a_wrong_small_element_is_located_if_nothing_was_folded(tmp_path: Path) -> None:
    def tamper(model: Any) -> None:
        node = next(node for node in model.graph.node if node.op_type == "LeakyRelu")
        node.attribute[0].f = 0.02

    subject = subject_of(nn.Sequential(nn.LeakyReLU(0.01), nn.Identity()), torch.tensor([1e7, -3.0, 2.0]))
    result = walked(subject, export(subject, EXPORTERS[0], tmp_path, tamper), EXPORTERS[0], tmp_path)
    assert result.module is not None
    assert result.module.node.op_type == "LeakyRelu"
    assert not result.module.rounding


def test_a_model_that_does_not_run_in_float64_is_compared_in_its_own_dtype(tmp_path: Path) -> None:
    class Float32Only(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.weight = nn.Sigmoid(), torch.ones(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(x @ self.weight)  # type: ignore[no-any-return]

    def tamper(model: Any) -> None:
        next(node for node in model.graph.node if node.op_type == "Sigmoid").op_type = "Tanh"

    subject = subject_of(Float32Only(), torch.randn(2, 4))
    result = walked(subject, export(subject, EXPORTERS[0], tmp_path, tamper), EXPORTERS[0], tmp_path)
    assert result.module is not None
    assert result.module.node.op_type == "Tanh"
    assert not result.module.rounding


def test_nodes_without_names_are_matched_by_shape_and_values(image: torch.Tensor, tmp_path: Path) -> None:
    def remove_names(model: Any) -> None:
        for node in model.graph.node:
            node.name = ""

    subject = subject_of(Net(), image)
    result = walked(subject, export(subject, EXPORTERS[0], tmp_path, remove_names), EXPORTERS[0], tmp_path)
    assert result.matched == 11


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_module_of_each_node_is_known(exporter: str, image: torch.Tensor, tmp_path: Path) -> None:
    subject = subject_of(Net(), image)
    model = read_model(export(subject, exporter, tmp_path).path)
    paths = {call.path for call in module_calls(subject.module, [image])}
    owners = {module_of(node, paths) for node in model.graph.node if node.op_type in {"Conv", "Sigmoid", "Tanh"}}
    assert owners == {path for path in paths if path != "pool"}


def test_hooks_change_neither_the_module_nor_its_inputs(image: torch.Tensor) -> None:
    module = nn.Sequential(nn.ReLU(inplace=True), nn.Tanh())
    subject = Subject(module, {"x": image}, outputs=1)
    before = image.clone()
    calls = module_calls(subject.module, [image])
    assert [call.class_name for call in calls] == ["ReLU", "Tanh"]
    assert torch.equal(image, before)
    assert all(not inner._forward_hooks for inner in module.modules())


def test_every_value_is_an_output_and_is_evaluated(image: torch.Tensor, tmp_path: Path) -> None:
    subject = subject_of(Net(), image)
    artifact = export(subject, EXPORTERS[0], tmp_path)
    model = read_model(artifact.path)
    computed = [name for node in model.graph.node for name in node.output]
    all_outputs = with_all_values_as_outputs(model)
    assert {value.name for value in all_outputs.graph.output} == set(computed)
    assert [value.name for value in all_outputs.graph.output][:2] == ["output_0", "output_1"]
    values = evaluate_all(artifact.path, {"x": image.numpy()})
    assert list(values) == computed
    for name, expected in evaluate(artifact.path, {"x": image.numpy()}).items():
        np.testing.assert_array_equal(values[name], expected)
