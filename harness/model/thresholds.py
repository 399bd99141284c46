"""Thresholds that a module compares its values with, and inputs at which values are on the other side of them.

Drawn inputs are of the size that the spec says. A bound of ``clamp(-3, 3)`` that they never reach can be changed or
dropped by an export, and ``if x.max() > 50`` can be left out, without a difference. So eager torch runs once more on
the drawn inputs with all its comparisons recorded. For those whose values are all on one side, inputs are scaled until
the comparison comes out otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.model.running import run_module, size_in_bytes
from harness.model.tensors import copy_module, to_torch

Array = NDArray[Any]
Inputs = Mapping[str, Array]

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

LARGEST = 1e6
"""Larger bounds, such as ``finfo.max``, are no part of what a module computes with usual inputs; nor are factors."""
MAX_RUNS = 11
"""Runs that look for inputs which reach a bound; a large module gets fewer."""
MAX_RUNS_OF_LARGE = 2
LARGE_BYTES = 64 << 20
MAX_SETS = 3
BEYOND = 2.0
"""The largest value is this many times the bound, so that it is well beyond it."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number that values are compared with. ``low`` and ``high`` are the smallest and the largest of these values."""

    operator: str
    at: float
    low: float
    high: float

    @property
    def is_reached(self) -> bool:
        """True if there are values on both sides."""
        return self.low < self.at < self.high

    def joined(self, other: Threshold) -> Threshold:
        """The same with the values of ``other``."""
        return replace(self, low=min(self.low, other.low), high=max(self.high, other.high))


Thresholds = dict[tuple[int, str, float], Threshold]
"""By the number of the operator in the order of execution, its name and the number compared with."""


class _Recorded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the thresholds of the operators that run inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Thresholds = {}
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
    recorded = [_recorded(module, inputs, seed) for inputs in sets[: 1 if is_large else MAX_SETS]]
    left = _unreached(recorded)
    runs = MAX_RUNS_OF_LARGE if is_large else MAX_RUNS
    for words, base in _bases(sets[0]):
        if not left or runs <= 0:
            return
        is_first = base is sets[0]
        at_base = recorded[0] if is_first else _recorded(module, base, seed)
        runs -= not is_first
        for key in list(left):
            if key not in left or key not in at_base:
                continue
            for factor in _factors(at_base[key]):
                if runs <= 0:
                    return
                inputs = _changed(base, partial(_times, factor))
                found = _recorded(module, inputs, seed)
                runs -= 1
                reached = [each for each in left if each in found and left[each].joined(found[each]).is_reached]
                if reached:
                    threshold = left[reached[0]]
                    yield (
                        f"{words}{factor:.3g} times as large, where {threshold.operator} reaches {threshold.at:.4g}",
                        inputs,
                    )
                    left = {each: value for each, value in left.items() if each not in reached}
                    break


def _unreached(recorded: Iterable[Thresholds]) -> Thresholds:
    joined: Thresholds = {}
    for found in recorded:
        for key, threshold in found.items():
            joined[key] = joined[key].joined(threshold) if key in joined else threshold
    return {key: threshold for key, threshold in joined.items() if not threshold.is_reached}


def _recorded(module: nn.Module, inputs: Inputs, seed: int) -> Thresholds:
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


def _bases(inputs: Inputs) -> Iterator[tuple[str, Inputs]]:
    yield "inputs ", inputs
    yield "inputs of the opposite sign, ", _changed(inputs, np.negative)
    yield "inputs without their signs, ", _changed(inputs, np.abs)
    yield "negative inputs, ", _changed(inputs, lambda values: -np.abs(values))


def _changed(inputs: Inputs, change: Callable[[Array], Any]) -> Inputs:
    with np.errstate(all="ignore"):
        return {
            label: np.asarray(change(values), values.dtype) if values.dtype.kind == "f" else values
            for label, values in inputs.items()
        }


def _times(factor: float, values: Array) -> Array:
    larger: Array = values * values.dtype.type(factor)
    return larger


def _factors(threshold: Threshold) -> Iterator[float]:
    """How many times as large the inputs must be, if the compared values grow with them, to reach the threshold."""
    for extreme in (threshold.high, threshold.low):
        if extreme and threshold.at / extreme > 0:
            factor = BEYOND * threshold.at / extreme
            if 1 / LARGEST <= factor <= LARGEST:
                yield factor
