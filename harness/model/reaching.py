"""Inputs at which the values of a model are on the other side of numbers that it compares them with. NumPy only.

Drawn inputs are of the size that the spec says. A bound of ``clamp(-3, 3)`` that they never reach can be changed or
dropped by an export, and ``if x.max() > 50`` can be left out, without a difference. So the model runs once more on the
drawn inputs with all its comparisons recorded. For those whose values are all on one side, inputs are scaled until the
comparison comes out otherwise. :mod:`harness.model.thresholds` records them in eager torch,
:mod:`harness.check.files.further_inputs` in an ONNX file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Inputs = Mapping[str, Array]

LARGEST = 1e6
"""Larger bounds, such as ``finfo.max``, are no part of what a model computes with usual inputs; nor are factors."""
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


Thresholds = Mapping[tuple[int, str, float], Threshold]
"""By the number of the operator in the order of execution, its name and the number compared with."""
Record = Callable[[Inputs], Thresholds]
"""The thresholds of one run; none if the model refuses the inputs."""


def inputs_beyond(record: Record, sets: Sequence[Inputs], runs: int) -> Iterator[tuple[str, Inputs]]:
    """Inputs like the first of ``sets`` at which a model reaches thresholds that it reaches at none of ``sets``.

    Each with a name for messages, which ends with the threshold. Only floating inputs are changed. At most ``runs``
    runs look for them.
    """
    recorded = [record(inputs) for inputs in sets]
    left = _unreached(recorded)
    for words, base in _bases(sets[0]):
        if not left or runs <= 0:
            return
        is_first = base is sets[0]
        at_base = recorded[0] if is_first else record(base)
        runs -= not is_first
        for key in list(left):
            if key not in left or key not in at_base:
                continue
            for factor in _factors(at_base[key]):
                if runs <= 0:
                    return
                inputs = _changed(base, partial(_times, factor))
                found = record(inputs)
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


def _unreached(recorded: Iterable[Thresholds]) -> dict[tuple[int, str, float], Threshold]:
    joined: dict[tuple[int, str, float], Threshold] = {}
    for found in recorded:
        for key, threshold in found.items():
            joined[key] = joined[key].joined(threshold) if key in joined else threshold
    return {key: threshold for key, threshold in joined.items() if not threshold.is_reached}


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
