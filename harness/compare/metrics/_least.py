"""The least float64 at which a tolerance passes."""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Callable


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
