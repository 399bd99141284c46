"""TorchScript modules whose ``forward`` takes numbers beside tensors, such as a sampling rate."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
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
    return _WithNumbers(module, numbers, [each.name for each in arguments]) if numbers else module


def script_signature(module: nn.Module) -> inspect.Signature | None:
    """The signature of a TorchScript module's ``forward``; None for another module, or if it has names like ``x.1``."""
    script = module.layer if isinstance(module, _WithNumbers) else module
    if not isinstance(script, torch.jit.ScriptModule) or not hasattr(script, "forward"):
        return None
    forward: Any = script.forward
    arguments = forward.schema.arguments[1:]
    if not all(each.name.isidentifier() for each in arguments):
        return None
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    defaults = [each.default_value if each.has_default_value() else inspect.Parameter.empty for each in arguments]
    return inspect.Signature(
        [inspect.Parameter(each.name, kind, default=default) for each, default in zip(arguments, defaults, strict=True)]
    )


class _WithNumbers(nn.Module):
    def __init__(self, module: nn.Module, numbers: frozenset[int], names: Sequence[str]) -> None:
        super().__init__()
        self.layer = module
        self._numbers, self._names = numbers, names

    def forward(self, *inputs: torch.Tensor, **named: torch.Tensor) -> Any:
        """Call the module with numbers in the place of their tensors."""
        by_order = (each.item() if index in self._numbers else each for index, each in enumerate(inputs))
        names = {self._names[index] for index in self._numbers}
        return self.layer(*by_order, **{name: each.item() if name in names else each for name, each in named.items()})
