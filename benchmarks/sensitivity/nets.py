"""Small networks of the kinds that people ship, with random weights: their layers, in small sizes and numbers.

They are written here, so that the report needs neither torchvision nor transformers. BatchNorm's statistics are those
of smooth random images, as training leaves them; without that, activations would shrink from layer to layer.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everybody writes it

from benchmarks.sensitivity.samples import images

WIDTH, HEADS, WORDS = 128, 4, 1000


def mobilenet() -> nn.Module:
    """Inverted bottlenecks with depthwise convolutions, squeeze-and-excitation and hard swish, as in MobileNetV3."""
    return _with_statistics(_MobileNet())


def resnet() -> nn.Module:
    """Basic blocks as in ResNet-18, two in each of three stages."""
    return _with_statistics(_ResNet())


def bert() -> nn.Module:
    """An encoder with embeddings, self-attention and GELU, as in BERT, and a classifier of its first token."""
    return _Bert().eval()


def whisper() -> nn.Module:
    """Convolutions over a spectrogram, an encoder, and a decoder with cross-attention, as in Whisper-tiny."""
    return _Whisper().eval()


class _SqueezeExcitation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * F.hardsigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, wide: int, out: int, stride: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.Hardswish())
        self.depthwise = nn.Sequential(
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.Hardswish()
        )
        self.attention = _SqueezeExcitation(wide)
        self.project = nn.Sequential(nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out))
        self.residual = stride == 1 and channels == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.project(self.attention(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


class _MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        sizes = [(16, 32, 16, 2), (16, 64, 24, 2), (24, 88, 24, 1), (24, 96, 40, 2), (40, 160, 40, 1)]
        self.features = nn.Sequential(*(_Bottleneck(*size) for size in sizes))
        self.classifier = nn.Sequential(nn.Linear(40, 256), nn.Hardswish(), nn.Linear(256, 100))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.classifier(self.features(self.stem(x)).mean((2, 3)))
        return y


class _Block(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.downsample = (
            nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
            if stride != 1 or channels != out
            else nn.Identity()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


class _ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 32, 7, 2, 3, bias=False), nn.BatchNorm2d(32)
        stages = [(32, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
        self.layers = nn.Sequential(*(_Block(*stage) for stage in stages))
        self.fc = nn.Linear(128, 100)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        y: torch.Tensor = self.fc(self.layers(x).mean((2, 3)))
        return y


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            layer(each).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for layer, each in ((self.query, x), (self.key, memory), (self.value, memory))
        )
        weights = torch.softmax(query @ key.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5, -1)
        y: torch.Tensor = self.out((weights @ value).transpose(1, 2).flatten(2))
        return y


class _Layer(nn.Module):
    def __init__(self, *, cross: bool = False) -> None:
        super().__init__()
        self.attention, self.attention_norm = _Attention(), nn.LayerNorm(WIDTH)
        self.cross = _Attention() if cross else None
        self.cross_norm = nn.LayerNorm(WIDTH) if cross else None
        self.up, self.down, self.norm = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: torch.Tensor, memory: torch.Tensor | None = None) -> torch.Tensor:
        x = self.attention_norm(x + self.attention(x, x))
        if self.cross is not None and self.cross_norm is not None and memory is not None:
            x = self.cross_norm(x + self.cross(x, memory))
        y: torch.Tensor = self.norm(x + self.down(F.gelu(self.up(x))))
        return y


class _Bert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions, self.norm = nn.Embedding(WORDS, WIDTH), nn.Embedding(64, WIDTH), nn.LayerNorm(WIDTH)
        self.encoder = nn.ModuleList(_Layer() for _ in range(3))
        self.pooler, self.classifier = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 8)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.words(ids) + self.positions.weight[: ids.shape[1]])
        for layer in self.encoder:
            x = layer(x)
        y: torch.Tensor = self.classifier(torch.tanh(self.pooler(x[:, 0])))
        return y


class _Whisper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(80, WIDTH, 3, 1, 1), nn.Conv1d(WIDTH, WIDTH, 3, 2, 1)
        self.encoder = nn.ModuleList(_Layer() for _ in range(2))
        self.words, self.positions = nn.Embedding(WORDS, WIDTH), nn.Embedding(256, WIDTH)
        self.decoder = nn.ModuleList(_Layer(cross=True) for _ in range(2))

    def forward(self, mel: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        memory = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2)
        memory = memory + self.positions.weight[: memory.shape[1]]
        for layer in self.encoder:
            memory = layer(memory)
        x = self.words(ids) + self.positions.weight[: ids.shape[1]]
        for layer in self.decoder:
            x = layer(x, memory)
        logits: torch.Tensor = x @ self.words.weight.T
        return logits


def _with_statistics(module: nn.Module) -> nn.Module:
    """The module with BatchNorm's statistics measured on images, in evaluation mode."""
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.momentum = None  # the plain mean of all batches
    module.train()
    with torch.no_grad():
        for seed in range(4):
            module(torch.from_numpy(images(8, seed)))
    return module.eval()
