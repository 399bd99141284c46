"""A net with layers of each kind for tests of the layer table, and files of it with a fault."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn


class Block(nn.Module):
    """A convolution whose batch normalization exporters fold into it, and a residual sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.act(self.bn(self.conv(x))) + x
        return added


class Net(nn.Module):
    """Layers of each kind. ``gate`` times the pooling is added, so that a small gate hides what the pooling does."""

    def __init__(self, gate: float = 1.0, divisor: int | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.body = nn.Sequential(Block(8), Block(8))
        self.pool = nn.AvgPool2d(3, 1, 1, divisor_override=divisor)
        self.gate = gate
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.gelu = nn.GELU()
        self.drop = nn.Dropout()
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(self.stem(x))
        x = (x + self.gate * self.pool(x)).flatten(2)
        x = self.norm(x)
        attended, _ = self.attention(x, x, x)
        answer: torch.Tensor = self.head(self.gelu(self.drop(x + attended))).softmax(-1)
        return answer


class RMSNorm(nn.Module):
    """T5's normalization, which converts its input: exporters let what follows read the copy."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        variance = x.to(torch.float32).pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + 1e-6))


class Residuals(nn.Module):
    """Two residual blocks around a linear layer, as T5 has them."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([RMSNorm(6), RMSNorm(6)])
        self.linears = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for norm, linear in zip(self.norms, self.linears, strict=True):
            x = x + linear(norm(x))
        return x


class Dicts(nn.Module):
    """Blocks in dicts, which are not called: the older exporter writes the scope "/norm" for the norm of each block."""

    def __init__(self, gate: float = 1.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.ModuleDict({"norm": nn.LayerNorm(6), "up": nn.Linear(6, 6)}) for _ in range(3)])
        self.norm, self.gate = nn.LayerNorm(6), gate
        for parameter in self.parameters():  # exporters write equal weights once
            nn.init.uniform_(parameter, 0.5, 1.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleDict)
            x = x + self.gate * layer["up"](layer["norm"](x))
        answer: torch.Tensor = self.norm(x)
        return answer


class Positive(nn.Module):
    """Functions between layers, and a positive output of a layer: its absolute values are the same tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(3) for _ in range(4)])
        self.pool = nn.AvgPool2d(3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number in (0, 2):
            y = torch.relu(self.norms[number](self.convs[number](x)))
            x = torch.relu(x + self.norms[number + 1](self.convs[number + 1](y)))
        x = self.pool(x)
        return torch.sqrt(x.abs()) + x


class Branches(nn.Module):
    """One layer's output is read by a layer that comes much later."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.act = nn.Linear(6, 6), nn.Linear(6, 6), nn.Tanh()
        self.chain = nn.Sequential(*(nn.Linear(6, 6) for _ in range(6)))
        self.norm = nn.LayerNorm(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.one(x), self.act(self.two(x))
        answer: torch.Tensor = self.chain(first) * self.norm(second) + second
        return answer


def net(gate: float = 1.0, divisor: int | None = None) -> Net:
    """A seeded net in evaluation mode."""
    torch.manual_seed(0)
    made = Net(gate, divisor)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return made.eval()


def inputs() -> torch.Tensor:
    """One seeded batch."""
    return torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def onnx_file(module: nn.Module, path: Path, *, dynamo: bool = False) -> Path:
    """``module`` exported to ONNX."""
    opset = 20 if dynamo else 17
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (inputs(),), str(path), dynamo=dynamo, opset_version=opset, input_names=["x"])
    return path


def changed(source: Path, path: Path, change: Callable[[onnx.GraphProto], None]) -> Path:
    """A copy of a file with its graph changed."""
    model = onnx.load(str(source))
    change(model.graph)
    onnx.save(model, str(path))
    return path


def scaled(graph: onnx.GraphProto, node_name: str, factor: float, index: int = 1) -> None:
    """Scale the first row of the weight that a node reads."""
    (node,) = (node for node in graph.node if node.name == node_name)
    (weight,) = (tensor for tensor in graph.initializer if tensor.name == node.input[index])
    values = np.array(numpy_helper.to_array(weight))
    values[0] *= factor
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))


def without_names(graph: onnx.GraphProto) -> None:
    """Take every name from the nodes, and give every value that is no input or output a number."""
    kept = {value.name for value in (*graph.input, *graph.output)} | {""}
    numbers: dict[str, str] = {}
    for node in graph.node:
        node.name = ""
        del node.metadata_props[:]
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                if name not in kept:
                    names[at] = numbers.setdefault(name, f"v{len(numbers)}")
    for tensor in graph.initializer:
        tensor.name = numbers.get(tensor.name, tensor.name)
    del graph.value_info[:]
