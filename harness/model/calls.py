"""Calls that can be made again and again on the same inputs, as timing needs them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn


def repeatable(module: Callable[..., object], inputs: Sequence[torch.Tensor]) -> tuple[Callable[[], object], bool]:
    """A call of ``module`` on ``inputs`` without autograd, and whether it must copy the inputs each time.

    The call works on a copy of the module, so that running statistics of the original stay as they are. No tensor of
    the copy requires a gradient, so that autograd records nothing; entering ``torch.no_grad`` at each call would be
    timed as well, and takes as long as a small layer.

    A layer that works in place changes what it is given: the second call would see other numbers than the first, and
    denormals after a few. Such a call copies its inputs first, and the copy is part of what is timed. To find out, the
    module is called once, on copies.
    """
    given = tuple(tensor.detach() for tensor in inputs)
    called = _without_gradients(module) if isinstance(module, nn.Module) else module
    trial = tuple(tensor.clone() for tensor in given)
    called(*trial)
    if all(_same(before, after) for before, after in zip(given, trial, strict=True)):
        return lambda: called(*given), False
    return lambda: called(*(tensor.clone() for tensor in given)), True


def _without_gradients(module: nn.Module) -> nn.Module:
    """A copy that requires no gradients; the module itself where it holds no tensors (frozen ones may refuse)."""
    if not module.state_dict():
        return module
    with torch.no_grad():  # the copy of a script module's parameter would else be the result of a computation
        copied = copy.deepcopy(module)
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
    return copied


def _same(before: torch.Tensor, after: torch.Tensor) -> bool:
    """Bit for bit, so that a NaN equals itself and the sign of zero counts."""
    if before.is_complex():
        before, after = torch.view_as_real(before), torch.view_as_real(after)
    width = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[before.element_size()]
    return torch.equal(before.contiguous().view(width), after.contiguous().view(width))
