"""The smallest absolute and the smallest relative tolerance that would have passed, exact in float64."""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Callable

from harness.compare.metrics import ComparedValues, Metric
from harness.compare.rules import close_allowance


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


PROVIDES: tuple[Metric, ...] = (LeastAtol(), LeastRtol())
