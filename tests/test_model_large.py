"""Large models: their copies share memory until one is changed, and float64 is reached one layer at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

import harness
from harness.exporters import onnx_dynamo
from harness.model.build import Subject, run_module
from harness.model.reference import run_in_float64_by_layer
from harness.model.tensors import LARGE_PARAMETER_BYTES, copy_module

WIDTH = 512


class Tied(nn.Module):
    """A weight that two layers share, buffers, and a module that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, WIDTH)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.head = nn.Linear(WIDTH, 20, bias=False)
        self.head.weight = self.embed.weight
        self.mix = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.mix(self.mix(self.norm(self.embed(tokens))))
        return torch.as_tensor(self.head(mixed))


class Borrowing(nn.Module):
    """A layer whose weight is used outside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.layer.weight)


class Counting(nn.Module):
    """It changes a large weight at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(LARGE_PARAMETER_BYTES // 4), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.weight.add_(1)
        return x + self.weight[:4]


@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (Tied(), [torch.arange(8)]),
        (nn.TransformerEncoderLayer(WIDTH, 4, batch_first=True), [torch.randn(2, 5, WIDTH)]),
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.PReLU(), nn.Flatten()), [torch.randn(2, 3, 6, 6)]),
    ],
    ids=["tied", "attention", "convolution"],
)
def test_float64_layer_by_layer_is_the_whole_module_in_float64(
    module: nn.Module, inputs: Sequence[torch.Tensor]
) -> None:
    module.eval()
    wide = [each.double() if each.is_floating_point() else each for each in inputs]
    expected = run_module(copy_module(module).double(), wide, 0)
    by_layer = run_in_float64_by_layer(copy_module(module), wide, 0)
    if by_layer is None:  # attention reads the parameters of its parts itself
        assert isinstance(module, nn.TransformerEncoderLayer)
    else:
        assert torch.equal(by_layer[0], expected[0])
    assert all(each.dtype != torch.float64 for each in module.parameters())


def test_a_weight_that_is_used_outside_its_layer_needs_the_whole_module() -> None:
    assert run_in_float64_by_layer(Borrowing(), [torch.ones(1, WIDTH, dtype=torch.float64)], 0) is None


def test_a_change_of_a_large_weight_stays_in_its_copy() -> None:
    module = Counting()
    copied = copy_module(module)
    assert copied(torch.zeros(4))[0] == 1
    assert module.weight.sum() == 0
    module(torch.zeros(4))
    assert copied(torch.zeros(4))[0] == 2


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own, in its exporter
def test_large_weights_are_in_a_file_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_dynamo, "EXTERNAL_DATA_BYTES", 1 << 10)
    module, x = nn.Linear(64, 64).eval(), torch.randn(2, 64)
    onnx_dynamo.OnnxDynamo().export(
        Subject(module, {"x": x}, outputs=1), tmp_path / "model.onnx", opset=None, fixes=False
    )
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    assert any(tensor.external_data for tensor in model.graph.initializer)
    targets = [
        "onnx-dynamo/ort-cpu",
        "onnx-dynamo/reference",
        "onnx-dynamo+slim/ort-cpu",
        "onnx-dynamo+optimized/ort-cpu",
    ]
    lowered = ["onnx-dynamo+fp16/ort-cpu", "onnx-dynamo+int8/ort-cpu"]
    harness.verify(module, x, targets=targets + lowered).assert_passed()
