"""Thresholds that a module compares its values with, and inputs at which values are on the other side of them.

Eager torch runs with all its comparisons recorded; :mod:`harness.model.reaching` looks for the inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.model.reaching import LARGEST, Inputs, Threshold, Thresholds, inputs_beyond
from harness.model.running import run_module, size_in_bytes
from harness.model.tensors import copy_module, to_torch

HALF = {torch.float16, torch.bfloat16}
COMPARISONS = {"gt", "ge", "lt", "le"}
BOUNDS: Mapping[str, Callable[..., tuple[Any, ...]]] = {
    "clamp": lambda low=None, high=None: (low, high),
    "clamp_": lambda low=None, high=None: (low, high),
    "clamp_min": lambda low: (low,),
    "clamp_min_": lambda low: (low,),
    "clamp_max": lambda high: (high,),
    "clamp_max_": lambda high: (high,),
    "hardtanh": lambda low=-1, high=1: (low, high),
    "hardtanh_": lambda low=-1, high=1: (low, high),
    "relu6": lambda: (0, 6),
    "softplus": lambda beta=1, at=20: (at / beta if beta else None,),
    "threshold": lambda at, _value: (at,),
    "threshold_": lambda at, _value: (at,),
    "hardshrink": lambda at=0.5: (-at, at),
    "softshrink": lambda at=0.5: (-at, at),
    "hardsigmoid": lambda: (-3, 3),
    "hardsigmoid_": lambda: (-3, 3),
    "hardswish": lambda: (-3, 3),
    "hardswish_": lambda: (-3, 3),
}
"""The bounds of an operator, from its arguments after the first."""

MAX_RUNS = 11
"""Runs that look for inputs which reach a bound; a large module gets fewer."""
MAX_RUNS_OF_LARGE = 2
LARGE_BYTES = 64 << 20
MAX_SETS = 3


class _Recorded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the thresholds of the operators that run inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[tuple[int, str, float], Threshold] = {}
        self._count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in COMPARISONS or name in BOUNDS:
            self._count += 1
            self._record(name, args, kwargs or {})
        return func(*args, **(kwargs or {}))

    def _record(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        values, *others = args
        if not isinstance(values, torch.Tensor) or not values.numel() or not values.is_floating_point():
            return
        bounds = others[:1] if name in COMPARISONS else (*BOUNDS[name](*others), *kwargs.values())
        low, high = (float(each) for each in torch.aminmax(values.detach().float()))
        for at in map(_as_number, bounds):
            if at is not None and abs(at) <= LARGEST and math.isfinite(low) and math.isfinite(high):
                self.found[self._count, name, at] = Threshold(name, at, low, high)


def _as_number(bound: Any) -> float | None:
    if isinstance(bound, torch.Tensor):
        return float(bound) if bound.numel() == 1 and not bound.is_complex() else None
    return float(bound) if isinstance(bound, int | float) and not isinstance(bound, bool) else None


def reaching_inputs(module: nn.Module, sets: Sequence[Inputs], seed: int) -> Iterator[tuple[str, Inputs]]:
    """Inputs like the first of ``sets`` at which ``module`` reaches thresholds that it reaches at none of ``sets``.

    Each with a name for messages, which ends with the threshold. Only floating inputs are changed. What eager torch
    refuses is left out. None in half precision: larger inputs leave its range, or use up its few digits.
    """
    if not any(values.dtype.kind == "f" and values.size for values in sets[0].values()):
        return
    if any(each.dtype in HALF for each in (*module.parameters(), *module.buffers(), *map(to_torch, sets[0].values()))):
        return
    is_large = size_in_bytes(module) >= LARGE_BYTES
    few = list(sets[: 1 if is_large else MAX_SETS])
    runs = MAX_RUNS_OF_LARGE if is_large else MAX_RUNS
    yield from inputs_beyond(partial(recorded, module, seed=seed), few, runs)


def recorded(module: nn.Module, inputs: Inputs, *, seed: int) -> Thresholds:
    """The thresholds of one run; none if eager torch refuses the inputs."""
    recorder = _Recorded()
    tensors = [to_torch(np.asarray(values)) for values in inputs.values()]
    try:
        copied = copy_module(module)
        with recorder:
            run_module(copied, tensors, seed)
    except Exception:  # noqa: BLE001 - the module's own code may refuse any input
        return {}
    return recorder.found
