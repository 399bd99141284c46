"""The finite numbers of two arrays side by side, and what rules and metrics need of them, each computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.bits import same_bits
from harness.compare.numberformat import NumberFormat, bit_patterns, steps_between

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two flat arrays of one dtype, every value finite.

    ``positions`` are the flat indices in the whole output, None where the pair is all of it. ``unit`` is 1, or
    an array with 0.5 where the difference of two huge float64 would overflow: there ``distance`` and ``size`` count
    in halves, so that a comparison can be made at all; limits are multiplied by ``unit`` likewise.
    Used under ``np.errstate(all="ignore")``.
    """

    actual: Array
    expected: Array
    form: NumberFormat
    positions: NDArray[np.intp] | None = None
    unit: Array | float = 1.0

    @cached_property
    def identical(self) -> bool:
        """True where both are the same to the last bit, so that there is little to be measured."""
        return same_bits(self.actual, self.expected)

    @cached_property
    def steps(self) -> NDArray[np.uint64]:
        """Representable numbers between the two, exactly."""
        if self.identical:
            return np.zeros(self.actual.shape, dtype=np.uint64)
        return steps_between(self.actual, self.expected, self.form)

    @cached_property
    def distance(self) -> NDArray[np.float64]:
        """``|actual - expected|`` in float64; of 64-bit integers the exact difference, rounded once."""
        if self.form.kind == "integer":
            return self.steps.astype(np.float64)
        if self.identical:
            return self.size - self.size  # NaN where that is not finite
        distance: NDArray[np.float64] = np.abs(self._wide(self.actual) - self._wide(self.expected))
        return distance

    @cached_property
    def size(self) -> NDArray[np.float64]:
        """``|expected|`` in float64."""
        size: NDArray[np.float64] = np.abs(self._wide(self.expected))
        return size

    @cached_property
    def relative(self) -> NDArray[np.float64]:
        """``distance / size``: NaN for zero against zero, infinite for anything else against zero."""
        relative: NDArray[np.float64] = self.distance / self.size
        return relative

    @cached_property
    def most_relative(self) -> float:
        """The largest ``relative``; 0 where there are no elements."""
        return 0.0 if self.same else float(np.fmax.reduce(self.relative))

    @cached_property
    def same(self) -> bool:
        """True where no two numbers differ in value."""
        return self.identical or not self.steps.any()

    @property
    def signs_of_zero(self) -> int:
        """How many elements are 0.0 on one side and -0.0 on the other."""
        if self.form.kind == "integer" or self.identical:
            return 0
        unlike = bit_patterns(self.actual, self.form) != bit_patterns(self.expected, self.form)
        return int(np.count_nonzero(unlike & (self.steps == 0)))

    def position(self, element: int) -> int:
        """The flat index in the whole output of one element of the pair."""
        return element if self.positions is None else int(self.positions[element])

    def against(self, answer: Array) -> Pair:
        """The same expected numbers with another answer."""
        return Pair(answer.astype(self.actual.dtype), self.expected, self.form, self.positions)

    def _wide(self, array: Array) -> Array:
        wide = array.astype(np.float64)
        return wide if isinstance(self.unit, float) else wide * self.unit
