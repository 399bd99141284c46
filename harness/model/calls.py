"""Calls that can be made again and again on the same inputs, as timing needs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch


def repeatable(module: Callable[..., object], inputs: Sequence[torch.Tensor]) -> tuple[Callable[[], object], bool]:
    """A call of ``module`` on ``inputs`` without autograd, and whether it must copy the inputs each time.

    A layer that works in place changes what it is given: the second call would see other numbers than the first, and
    denormals after a few. Such a call copies its inputs first, and the copy is part of what is timed. To find out, the
    module is called once, on copies.
    """
    given = tuple(inputs)
    with torch.inference_mode():
        trial = tuple(tensor.clone() for tensor in given)
        module(*trial)
        in_place = not all(_same(before, after) for before, after in zip(given, trial, strict=True))
    if in_place:

        def call() -> object:
            with torch.inference_mode():
                return module(*(tensor.clone() for tensor in given))

    else:

        def call() -> object:
            with torch.inference_mode():
                return module(*given)

    return call, in_place


def _same(before: torch.Tensor, after: torch.Tensor) -> bool:
    """Bit for bit, so that a NaN equals itself and the sign of zero counts."""
    if before.is_complex():
        before, after = torch.view_as_real(before), torch.view_as_real(after)
    width = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[before.element_size()]
    return torch.equal(before.contiguous().view(width), after.contiguous().view(width))
