"""Small nets of the kinds that people export: each passes as it is, and each fault that is planted in one is caught.

``make models`` does the same with models of torchvision and transformers.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import harness
from benchmarks.models.door import WrongWhenExported
from benchmarks.models.faults import KINDS, faults

TARGETS = ("trace/torch-cpu", "onnx-torchscript@17/ort-cpu")
WIDTH = 16


class Residual(nn.Module):
    """Convolutions with BatchNorm around a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH)
        self.inner, self.relu = nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU()
        self.head = nn.Linear(WIDTH, 100)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.relu(self.norm(self.stem(x)))
        return self.head((x + self.relu(self.inner(x))).mean((2, 3)))


class CausalAttention(nn.Module):
    """One head of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        query, key, value = self.projection(x)[:, None].chunk(3, dim=-1)
        scores = query @ key.transpose(-1, -2) / WIDTH**0.5 + attention_mask
        return (scores.softmax(-1) @ value)[:, 0]


class Attention(nn.Module):
    """A block of a transformer with a causal mask."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(WIDTH), CausalAttention()
        self.up, self.gelu, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> Any:
        mask = torch.full((x.shape[1], x.shape[1]), -1e4, dtype=x.dtype).triu(1)[None, None]
        x = x + self.attention(self.norm(x), attention_mask=mask)
        return x + self.down(self.gelu(self.up(x)))


class Recurrent(nn.Module):
    """An LSTM, and the last state of a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTM(8, WIDTH, batch_first=True), nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.tanh = nn.Tanh()

    def forward(self, x: torch.Tensor) -> Any:
        outputs, _ = self.lstm(x)
        _, state = self.gru(self.tanh(3 * outputs))
        return outputs, state


class Gated(nn.Module):
    """Two branches that are multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.gate, self.silu = nn.Linear(8, 64), nn.Linear(8, 64), nn.SiLU()
        self.down = nn.Linear(64, 32)

    def forward(self, x: torch.Tensor) -> Any:
        return self.down(self.silu(self.gate(x)) * self.value(x))


class DetectorHead(nn.Module):
    """Boxes, the probability of each, and the class."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.relu = nn.Conv2d(3, WIDTH, 3, stride=2), nn.ReLU()
        self.boxes, self.classes, self.sigmoid = nn.Conv2d(WIDTH, 4, 1), nn.Conv2d(WIDTH, 5, 1), nn.Sigmoid()

    def forward(self, x: torch.Tensor) -> Any:
        x = self.relu(self.features(x))
        boxes = self.boxes(x).flatten(2).transpose(1, 2)
        scores = self.sigmoid(self.classes(x)).flatten(2).transpose(1, 2)
        centre, size = boxes.chunk(2, dim=-1)
        return torch.cat([centre - size.exp() / 2, centre + size.exp() / 2], dim=-1), scores, scores.argmax(-1)


class Collapsed(nn.Module):
    """Activations that vanish, as in a deep net with untrained BatchNorm: the outputs are near 1e-6."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), nn.ReLU()) for _ in range(4)]
        self.layers, self.head = nn.ModuleList(layers), nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> Any:
        for layer in self.layers:
            x = layer(x) * 0.1
        return self.head(x)


class Tiny(nn.Module):
    """An output of one value per sample, such as a loss or a regression."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.relu, self.down = nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1)

    def forward(self, x: torch.Tensor) -> Any:
        return self.down(self.relu(self.up(x)))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (2, 3, 12, 12)),
    "attention": (Attention, (2, 10, WIDTH)),
    "recurrent": (Recurrent, (2, 6, 8)),
    "gated": (Gated, (8, 8)),
    "detector": (DetectorHead, (1, 3, 16, 16)),
    "collapsed": (Collapsed, (8, WIDTH)),
    "tiny": (Tiny, (2, 8)),
}


def net(name: str, dtype: torch.dtype) -> tuple[nn.Module, list[torch.Tensor]]:
    """The net with random weights, and two inputs."""
    make, shape = NETS[name]
    torch.manual_seed(3)
    module = make().eval()
    return module.to(dtype), [torch.randn(shape).to(dtype) for _ in range(2)]


@pytest.fixture(autouse=True)
def seeded() -> Any:
    with torch.random.fork_rng(devices=()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's tracer
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("name", NETS)
def test_a_right_net_passes(name: str, dtype: torch.dtype) -> None:
    module, (first, second) = net(name, dtype)
    verified = harness.verify(module, first, TARGETS, also=[second])
    assert verified.passed, verified.message


FAULTS = [
    (name, kind, number)
    for name in NETS
    for number, kind in enumerate(fault.kind for fault in faults(NETS[name][0](), 1))
]


def test_faults_of_each_kind_are_planted() -> None:
    assert {kind for _, kind, _ in FAULTS} == set(KINDS)


@pytest.mark.parametrize(("name", "kind", "number"), FAULTS, ids=[f"{name}-{kind}" for name, kind, _ in FAULTS])
def test_a_planted_fault_is_caught(name: str, kind: str, number: int) -> None:
    right, (first, second) = net(name, torch.float32)
    wrong = copy.deepcopy(right)
    faults(right, 1)[number].plant(wrong)
    module = WrongWhenExported(right, wrong, ["x"]).eval()
    (result,) = harness.verify(module, first, TARGETS[number % 2], also=[second]).results
    assert (result.status, result.symptom) == ("failed", "mismatch"), f"{kind}: {result}"
