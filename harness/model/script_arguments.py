"""TorchScript modules whose ``forward`` takes numbers beside tensors, such as a sampling rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

NUMBERS = frozenset({"int", "float", "bool"})


def with_numbers_from_tensors(module: torch.jit.ScriptModule) -> nn.Module:
    """``module``, called with tensors alone: where ``forward`` takes a number, a tensor of one element stands for it.

    The module itself if it takes tensors only, or has no ``forward`` that can be called: that shows when it is called.
    """
    method: Any = getattr(module, "forward", None)
    if method is None:
        return module
    arguments = method.schema.arguments[1:]  # the first is the module
    numbers = frozenset(index for index, each in enumerate(arguments) if str(each.type) in NUMBERS)
    return _WithNumbers(module, numbers) if numbers else module


class _WithNumbers(nn.Module):
    def __init__(self, module: nn.Module, numbers: frozenset[int]) -> None:
        super().__init__()
        self.layer = module
        self._numbers = numbers

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Call the module with numbers in the place of their tensors."""
        return self.layer(*(each.item() if index in self._numbers else each for index, each in enumerate(inputs)))
