"""The real effect of a planted fault, in exact arithmetic and without ``harness.compare``.

Every number is a fraction of Python integers, and every distance in ULP is a difference of integers. Elements are
compared one by one. This is slow, exact, and independent of the code that it tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.model.answer import Reference
from harness.spec.language.tolerances import Close, Exact, Rule, Scaled, Tolerance, Ulp

Array = NDArray[Any]

# IEEE 754-2019, table 3.5, and bfloat16: the gap after 1 and the smallest positive number, as powers of two.
FLOATING = {"float16": (-10, -24), "bfloat16": (-7, -133), "float32": (-23, -149), "float64": (-52, -1074)}


def first_difference(outputs: Mapping[str, Array], reference: Reference, tolerance: Tolerance) -> str | None:
    """Return the first difference outside ``tolerance``, in a few words, or None."""
    if list(outputs) != list(reference.eager):
        return f"outputs {', '.join(outputs) or 'none'}"
    for index, (name, expected) in enumerate(reference.eager.items()):
        actual = outputs[name]
        if actual.shape != expected.shape or actual.dtype != expected.dtype:
            return f"{name} is {actual.dtype.name}{list(actual.shape)}"
        rule = rule_of(tolerance, index, expected)
        for at in differing(actual, expected, _at(reference.undefined, index)):
            if not _allowed(rule, actual, expected, _at(reference.magnitudes, index), at):
                return f"{name} at {at}: {actual.flat[at]}, expected {expected.flat[at]}"
    return None


def same_bits(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    """Return whether both have the same_bits names, shapes, dtypes and bits."""
    return list(one) == list(other) and all(
        a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
        for a, b in zip(one.values(), other.values(), strict=True)
    )


def rule_of(tolerance: Tolerance, index: int, expected: Array) -> Rule:
    """Return the rule for one output. Integers must be equal unless the spec has a rule for this output."""
    rule = tolerance.by_output.get(index, tolerance.rule)
    if expected.dtype.name in FLOATING or (isinstance(rule, Close) and index in tolerance.by_output):
        return rule
    return Exact()


def allowed_error(rule: Rule, expected: Array, magnitudes: Array | None, at: int) -> Fraction:
    """Return the error that a rule other than ULP allows for the element ``at``."""
    reference = float(expected.flat[at])
    match rule:
        case Close(rtol, atol):
            return Fraction(atol) + Fraction(rtol) * abs(Fraction(reference))
        case Scaled(n):
            assert magnitudes is not None
            terms = float(np.asarray(magnitudes).flat[at])
            gap, least = (Fraction(2) ** power for power in FLOATING[expected.dtype.name])
            return Fraction(n) * max(gap * Fraction(terms), least) if 0 < terms < math.inf else Fraction(0)
        case _:
            return Fraction(0)


def ordinal(array: Array, at: int) -> int:
    """Return the element's position among all numbers of its dtype, counted from zero; for an integer, its value."""
    item = array.reshape(-1)[at : at + 1]
    if item.dtype.name not in FLOATING:
        return int(item[0])
    bits = int.from_bytes(item.tobytes(), "little")
    sign = 1 << (8 * item.itemsize - 1)
    return -(bits - sign) if bits & sign else bits


def differing(actual: Array, expected: Array, undefined: Array | None) -> Iterator[int]:
    """Yield the flat indices with different bits, without those where the result is undefined."""
    width = np.dtype(f"V{actual.itemsize}")
    one, other = (np.ascontiguousarray(side).reshape(-1).view(width) for side in (actual, expected))
    unlike = one != other if actual.size else np.zeros(0, dtype=np.bool_)
    if undefined is not None:
        unlike &= ~np.asarray(undefined).reshape(-1)
    yield from map(int, np.flatnonzero(unlike))


def _allowed(rule: Rule, actual: Array, expected: Array, magnitudes: Array | None, at: int) -> bool:
    if actual.dtype.name not in FLOATING:
        apart = abs(int(actual.flat[at]) - int(expected.flat[at]))
        return apart == 0 or (isinstance(rule, Close) and apart <= allowed_error(rule, expected, None, at))
    value, reference = float(actual.flat[at]), float(expected.flat[at])
    if not (math.isfinite(value) and math.isfinite(reference)):
        return value == reference or (math.isnan(value) and math.isnan(reference))
    if isinstance(rule, Ulp):
        return abs(ordinal(actual, at) - ordinal(expected, at)) <= rule.n
    return abs(Fraction(value) - Fraction(reference)) <= allowed_error(rule, expected, magnitudes, at)


def _at(arrays: Sequence[Array | None], index: int) -> Array | None:
    return arrays[index] if index < len(arrays) else None
