"""A custom module, and how harness verifies it: see ``specs/own-module.yaml`` beside this file.

Run this in the root of the repository::

    harness run examples/specs --allow-import
"""

from __future__ import annotations

import torch
from torch import nn


class Net(nn.Module):
    """A small image classifier: convolutions, a residual branch, pooling, and a linear head.

    Takes images ``(N, channels, H, W)`` with even sides of at least four. Returns scores ``(N, classes)`` and the
    features ``(N, width)`` from which they are computed.
    """

    def __init__(self, channels: int = 3, width: int = 8, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, kernel_size=3, padding=1)
        self.branch = nn.Sequential(nn.BatchNorm2d(width), nn.LeakyReLU(0.1), nn.Conv2d(width, width, kernel_size=1))
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(width, classes)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scores and features of ``image``."""
        stem = self.stem(image)
        features = self.pool(stem + self.branch(stem)).mean(dim=(2, 3))
        return self.head(features), features
