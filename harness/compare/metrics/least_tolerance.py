"""The least float64 at which a tolerance passes.

The least absolute tolerance that would have passed.

The least relative tolerance that would have passed.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Callable

from harness.compare.metrics import Judged, Metric
from harness.compare.rules import close


def least(passes: Callable[[float], bool], *, near: float) -> float:
    """The least positive float64 for which ``passes`` is true; infinite where there is none.

    ``passes`` is false at 0 and stays true once it is true. ``near`` is a guess: one that is right to the last digit
    costs two or three calls, any other about 65.
    """
    high = near
    if math.isinf(high) or not passes(high):
        high = math.nextafter(near, math.inf)
        if math.isinf(high) or not passes(high):
            largest = sys.float_info.max
            return _bisect(passes, _ordinal(min(near, largest)), _ordinal(largest)) if passes(largest) else math.inf
        return high
    below = math.nextafter(high, 0.0)
    if below == 0.0 or not passes(below):
        return high
    return _bisect(passes, 0, _ordinal(below))


def _bisect(passes: Callable[[float], bool], low: int, high: int) -> float:
    """Halve the representable numbers between ``low``, which fails, and ``high``, which passes."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(_number(middle)) else (middle, high)
    return _number(high)


def _ordinal(value: float) -> int:
    ordinal: int = struct.unpack("<q", struct.pack("<d", value))[0]
    return ordinal


def _number(ordinal: int) -> float:
    value: float = struct.unpack("<d", struct.pack("<q", ordinal))[0]
    return value


class LeastAtol:
    """The smallest float64 ``atol`` that passes with ``rtol`` 0."""

    name = "least_atol"

    def measure(self, judged: Judged) -> float:
        """Infinite where none passes: a difference beyond float64, or NaN or an infinity on one side only."""
        if judged.strays.size:
            return float("inf")
        pair = judged.pair
        if pair.same:
            return 0.0
        near = float((pair.distance / pair.unit).max())
        if pair.form.kind == "floating":
            return near  # the very number that the rule compares atol with
        return least(lambda atol: not close(pair, 0.0, atol).outside.any(), near=near)


class LeastRtol:
    """The smallest float64 ``rtol`` that passes with ``atol`` 0."""

    name = "least_rtol"

    def measure(self, judged: Judged) -> float:
        """Infinite where none passes: a value against zero, or NaN or an infinity on one side only."""
        if judged.strays.size:
            return float("inf")
        pair = judged.pair
        if pair.same:
            return 0.0
        return least(lambda rtol: not close(pair, rtol, 0.0).outside.any(), near=pair.most_relative)


PROVIDES: tuple[Metric, ...] = (LeastAtol(), LeastRtol())
