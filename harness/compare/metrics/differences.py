"""The metrics of every report: the largest differences, the values that exceed the tolerance, the least tolerances.

The least tolerances are the smallest ``atol`` and ``rtol`` that would have passed, exact in float64.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Callable

import numpy as np

from harness.compare.metrics import ComparedValues, Metric
from harness.compare.rules import close_allowance


class MaxAbs:
    """``max |actual - expected|`` in the output's unit; infinite if it exceeds every float64."""

    name = "max_abs"

    def measure(self, compared: ComparedValues) -> float | None:
        """The largest difference of the finite values; None if there are none."""
        pair = compared.pair
        if not pair.distance.size:
            return None
        return float((pair.distance if isinstance(pair.unit, float) else pair.distance / pair.unit).max())


class MaxRel:
    """``max |actual - expected| / |expected|``; 0 for zero against zero, infinite for any other value against zero."""

    name = "max_rel"

    def measure(self, compared: ComparedValues) -> float | None:
        """The largest ratio of the finite values; None if there are none."""
        return compared.pair.max_relative if compared.pair.actual.size else None


class MaxUlp:
    """The largest distance in representable numbers of the output's own dtype, counted through zero.

    -0.0 and 0.0 are the same number. For integers it is their difference. Exact for every dtype.
    """

    name = "max_ulp"

    def measure(self, compared: ComparedValues) -> int | None:
        """The largest count of the finite values; None if there are none."""
        return int(compared.pair.ulps.max()) if compared.pair.actual.size else None


class Mismatched:
    """The count of values that differ by more than the tolerance, with NaN or an infinity on one side included."""

    name = "mismatched"

    def measure(self, compared: ComparedValues) -> int:
        """The count; the total is ``of`` in the output comparison."""
        return int(np.count_nonzero(compared.exceeded)) + compared.nonfinite_mismatches.size


class Worst:
    """The index of the value that exceeds its limit the most, or comes closest to it if all pass.

    NaN or an infinity on one side only comes first, then the largest ratio of measure to limit. If the limit is zero,
    the largest difference.
    """

    name = "worst"

    def measure(self, compared: ComparedValues) -> tuple[int, ...] | None:
        """The index, one number per axis; None if no value differs."""
        flat = _flat_index(compared)
        return None if flat is None else tuple(int(i) for i in np.unravel_index(flat, compared.shape))


def _flat_index(compared: ComparedValues) -> int | None:
    if compared.nonfinite_mismatches.size:
        return int(compared.nonfinite_mismatches[0])
    pair, measure, limit = compared.pair, compared.allowance.measure, compared.allowance.limit
    if pair.equal:
        return None
    if np.ndim(limit) == 0:
        return pair.position(int(measure.argmax()))
    severity = measure / limit
    severity[measure == 0] = 0.0
    worst = int(severity.argmax())
    if np.isinf(severity[worst]):
        worst = int(np.where(np.isinf(severity), measure, 0).argmax())
    return pair.position(worst)


class LeastAtol:
    """The smallest float64 ``atol`` that passes with ``rtol`` 0."""

    name = "least_atol"

    def measure(self, compared: ComparedValues) -> float:
        """Infinite if none passes: a difference beyond float64, or NaN or an infinity on one side only."""
        if compared.nonfinite_mismatches.size:
            return float("inf")
        pair = compared.pair
        if pair.equal:
            return 0.0
        largest = float((pair.distance / pair.unit).max())
        if pair.format.kind == "floating":
            return largest  # exactly the number that the rule compares atol with
        return least_passing(lambda atol: not close_allowance(pair, 0.0, atol).exceeded.any(), guess=largest)


class LeastRtol:
    """The smallest float64 ``rtol`` that passes with ``atol`` 0."""

    name = "least_rtol"

    def measure(self, compared: ComparedValues) -> float:
        """Infinite if none passes: a value against zero, or NaN or an infinity on one side only."""
        if compared.nonfinite_mismatches.size:
            return float("inf")
        pair = compared.pair
        if pair.equal:
            return 0.0
        return least_passing(lambda rtol: not close_allowance(pair, rtol, 0.0).exceeded.any(), guess=pair.max_relative)


def least_passing(passes: Callable[[float], bool], *, guess: float) -> float:
    """The smallest positive float64 for which ``passes`` is true; infinite if there is none.

    ``passes`` must be false at 0 and stay true once it is true. A ``guess`` that is right to the last digit costs two
    or three calls, any other about 65.
    """
    high = guess
    if math.isinf(high) or not passes(high):
        high = math.nextafter(guess, math.inf)
        if math.isinf(high) or not passes(high):
            largest = sys.float_info.max
            return _bisect(passes, _ordinal(min(guess, largest)), _ordinal(largest)) if passes(largest) else math.inf
        return high
    below = math.nextafter(high, 0.0)
    if below == 0.0 or not passes(below):
        return high
    return _bisect(passes, 0, _ordinal(below))


def _bisect(passes: Callable[[float], bool], low: int, high: int) -> float:
    """Bisect the representable numbers between ``low``, which fails, and ``high``, which passes."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(_from_ordinal(middle)) else (middle, high)
    return _from_ordinal(high)


def _ordinal(value: float) -> int:
    ordinal: int = struct.unpack("<q", struct.pack("<d", value))[0]
    return ordinal


def _from_ordinal(ordinal: int) -> float:
    value: float = struct.unpack("<d", struct.pack("<q", ordinal))[0]
    return value


PROVIDES: tuple[Metric, ...] = (MaxAbs(), MaxRel(), MaxUlp(), Mismatched(), Worst(), LeastAtol(), LeastRtol())
