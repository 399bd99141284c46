"""A net of 49 layers: convolutions, normalizations, activations, poolings, attention and linear layers."""

from __future__ import annotations

import torch
from torch import nn


class ConvBlock(nn.Module):
    """A convolution, a normalization and an activation, with a residual sum."""

    def __init__(self, channels: int, norm: nn.Module, act: nn.Module, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
        self.norm, self.act = norm, act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One pass."""
        added: torch.Tensor = x + self.act(self.norm(self.conv(x)))
        return added


class TransformerBlock(nn.Module):
    """Attention and a feed-forward part, each after a normalization. A tiny ``scale`` hides the feed-forward part."""

    def __init__(self, width: int, act: nn.Module, scale: float) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, 4, batch_first=True)
        self.norm2, self.up, self.act, self.down = (
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            act,
            nn.Linear(2 * width, width),
        )
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One pass."""
        y = self.norm1(x)
        attended, _ = self.attention(y, y, y, need_weights=False)
        x = x + attended
        added: torch.Tensor = x + self.scale * self.down(self.act(self.up(self.norm2(x))))
        return added


class ManyLayers(nn.Module):
    """The net. It takes images of 3 by 16 by 16."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm, self.stem_act = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.body = nn.Sequential(
            ConvBlock(16, nn.BatchNorm2d(16), nn.ReLU(inplace=True)),
            ConvBlock(16, nn.BatchNorm2d(16), nn.SiLU(), groups=16),
            ConvBlock(16, nn.GroupNorm(4, 16), nn.LeakyReLU(0.1)),
            ConvBlock(16, nn.InstanceNorm2d(16, affine=True), nn.Hardswish()),
            ConvBlock(16, nn.BatchNorm2d(16), nn.ELU()),
        )
        self.mix, self.prelu, self.average = nn.Conv2d(16, 32, 1), nn.PReLU(32), nn.AvgPool2d(3, 1, 1)
        self.embed = nn.Linear(32, 32)
        self.blocks = nn.Sequential(
            TransformerBlock(32, nn.GELU(), 1.0),
            TransformerBlock(32, nn.GELU(approximate="tanh"), 1e-6),
            TransformerBlock(32, nn.ReLU(), 1.0),
        )
        self.norm, self.hidden, self.tanh, self.drop = nn.LayerNorm(32), nn.Linear(32, 32), nn.Tanh(), nn.Dropout()
        self.gate, self.sigmoid = nn.Linear(32, 32), nn.Sigmoid()
        self.head, self.softmax = nn.Linear(32, 10), nn.Softmax(-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One pass."""
        x = self.pool(self.stem_act(self.stem_norm(self.stem(x))))
        x = self.average(self.prelu(self.mix(self.body(x))))
        x = self.blocks(self.embed(x.flatten(2).transpose(1, 2)))
        x = self.drop(self.tanh(self.hidden(self.norm(x)))) * self.sigmoid(self.gate(x))
        answer: torch.Tensor = self.softmax(self.head(x.mean(1)))
        return answer


def net() -> ManyLayers:
    """The seeded net in evaluation mode, with statistics that are no identity."""
    torch.manual_seed(0)
    made = ManyLayers()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm | nn.InstanceNorm2d):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
    return made.eval()


def inputs() -> torch.Tensor:
    """One seeded batch."""
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
