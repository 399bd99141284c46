"""Whether a value of a graph is off, and whether that is more than rounding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.verdict import compare
from harness.spec.tolerance import Close, Exact, Rule, Tolerance, Ulp

Array = NDArray[Any]

OF_THE_LARGEST: Mapping[str, float] = {"float16": 1e-2, "bfloat16": 6e-2, "float32": 2e-5, "float64": 1e-7}
"""What rounding may come to, of the largest magnitude of the same value.

A long sum is off by a part of its terms, however small it comes out, so that no bound relative to the element itself
holds. The terms are not known here; the largest sum beside it tells their order.
"""

WRITTEN = 1e-5
"""What a rightly written graph may be off in float64, of the largest magnitude and then of the element itself: folded
weights, such as those of a convolution and its batch normalization, were rounded to float32 when they were folded."""

ZERO = 1e-12
"""What a sum that comes out as zero may be off in float64, of the largest magnitude."""


@dataclass(frozen=True, slots=True)
class Off:
    """``how`` it is off, in words; ``rounding`` is True where that is no more than rounding."""

    how: str
    rounding: bool


def computed_off(name: str, actual: Array, expected: Array) -> Off | None:
    """How what was computed in the graph's own dtypes is off ``expected``; None where it is the same bit by bit."""
    if actual.dtype != expected.dtype and expected.dtype.kind == "f":
        with np.errstate(all="ignore"):
            expected = expected.astype(actual.dtype)
    share = OF_THE_LARGEST.get(actual.dtype.name)
    rule = Exact() if share is None else _of_the_largest(expected, share)
    if (wrong := _wrong(name, actual, expected, rule)) is not None:
        return Off(wrong, rounding=False)
    if (wrong := _wrong(name, actual, expected, Ulp(0))) is not None:
        return Off(wrong, rounding=True)
    return None


def written_off(name: str, actual: Array, expected: Array) -> Off | None:
    """How what both sides computed in float64 is off, where that cannot come from folded weights."""
    floating = expected.dtype.kind == "f"
    wrong = _wrong(name, actual, expected, _of_the_largest(expected, WRITTEN) if floating else Exact())
    return None if wrong is None else Off(wrong, rounding=False)


def element_off(name: str, actual: Array, expected: Array) -> Off | None:
    """As :func:`written_off`, with each element held by its own magnitude: what is small beside the largest is seen."""
    rule = Close(WRITTEN, ZERO * _largest(expected)) if expected.dtype.kind == "f" else Exact()
    wrong = _wrong(name, actual, expected, rule)
    return None if wrong is None else Off(wrong, rounding=False)


def _of_the_largest(expected: Array, share: float) -> Rule:
    return Close(0.0, share * _largest(expected))


def _largest(values: Array) -> float:
    magnitudes = np.abs(values.astype(np.float64))
    return float(magnitudes[np.isfinite(magnitudes)].max(initial=0.0))


def _wrong(name: str, actual: Array, expected: Array, rule: Rule) -> str | None:
    found = compare({name: actual}, {name: expected}, Tolerance(rule))
    return None if found.passed else found.message
