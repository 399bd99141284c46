"""Random small networks: convolutions, linear layers, normalization, attention, residual connections, activations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Hardswish, nn.LeakyReLU,
)  # fmt: skip
BATCH, LENGTH, SIDE = 16, 6, 10


class Residual(nn.Module):
    """``x + inner(x)``."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum."""
        result: torch.Tensor = x + self.inner(x)
        return result


class Attention(nn.Module):
    """One head of attention over the second axis, written out."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(features, features) for _ in range(3))
        self.scale = features**-0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The attended values."""
        weights = torch.softmax(self.query(x) @ self.key(x).transpose(-1, -2) * self.scale, -1)
        result: torch.Tensor = weights @ self.value(x)
        return result


class Pooled(nn.Module):
    """The mean over all axes but the first two, for the head of a convolutional net."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The means."""
        return x.mean((2, 3))


def random_net(seed: int) -> tuple[str, nn.Module, torch.Tensor]:
    """A net in evaluation mode with its kind, and an input for it. The same seed gives the same net."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        kind = ("mlp", "convolutional", "attention")[seed % 3]
        layers, x = {"mlp": _mlp, "convolutional": _convolutional, "attention": _attention}[kind](draw)
        net = nn.Sequential(*layers)
        scale = 2.0 ** draw(-3, 3)
        _settle(net)
        return kind, net.eval(), x * scale


def _activation(draw: Callable[[int, int], int]) -> nn.Module:
    return ACTIVATIONS[draw(0, len(ACTIVATIONS) - 1)]()


def _mlp(draw: Callable[[int, int], int]) -> tuple[list[nn.Module], torch.Tensor]:
    width = 8 * draw(1, 8)
    layers: list[nn.Module] = [nn.Linear(16, width), _activation(draw)]
    for _ in range(draw(0, 4)):
        inner = nn.Sequential(nn.Linear(width, width), _activation(draw))
        layers.append(Residual(inner) if draw(0, 1) else inner)
        if draw(0, 2) == 0:
            layers.append(nn.LayerNorm(width))
    return [*layers, nn.Linear(width, draw(2, 20))], torch.randn(BATCH, 16)


def _convolutional(draw: Callable[[int, int], int]) -> tuple[list[nn.Module], torch.Tensor]:
    channels = 4 * draw(1, 4)
    layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), _activation(draw)]
    for _ in range(draw(0, 3)):
        groups = channels if draw(0, 2) == 0 else 1
        convolution = nn.Conv2d(channels, channels, 3, padding=1, groups=groups)
        inner = nn.Sequential(convolution, nn.BatchNorm2d(channels), _activation(draw))
        layers.append(Residual(inner) if draw(0, 1) else inner)
    if draw(0, 1):
        layers.append(nn.MaxPool2d(2))
    return [*layers, Pooled(), nn.Linear(channels, draw(2, 20))], torch.randn(BATCH, 3, SIDE, SIDE)


def _attention(draw: Callable[[int, int], int]) -> tuple[list[nn.Module], torch.Tensor]:
    width = 8 * draw(1, 4)
    layers: list[nn.Module] = [nn.Linear(12, width)]
    for _ in range(draw(1, 2)):
        feed = nn.Sequential(nn.Linear(width, 2 * width), _activation(draw), nn.Linear(2 * width, width))
        layers += [Residual(Attention(width)), nn.LayerNorm(width), Residual(feed)]
    return [*layers, nn.Linear(width, draw(2, 20))], torch.randn(BATCH, LENGTH, 12)


def _settle(net: nn.Module) -> None:
    """Give BatchNorm statistics other than those it begins with."""
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.1)  # type: ignore[arg-type]  # it tracks them
            nn.init.uniform_(part.running_var, 0.5, 1.5)  # type: ignore[arg-type]
