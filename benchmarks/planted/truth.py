"""What a planted fault really did to an answer, found out without anything from ``harness.compare``.

Every number is a fraction of Python integers and every distance in ULP a difference of integers, one element at a
time: slow, exact, and written apart from what it judges.
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

# IEEE 754-2019, table 3.5, and bfloat16: the gap after 1 and the least positive number, as powers of two.
FLOATING = {"float16": (-10, -24), "bfloat16": (-7, -133), "float32": (-23, -149), "float64": (-52, -1074)}


def beyond(answer: Mapping[str, Array], reference: Reference, tolerance: Tolerance) -> str | None:
    """What of ``answer`` is outside ``tolerance``, in a few words; None where nothing is."""
    if list(answer) != list(reference.eager):
        return f"outputs {', '.join(answer) or 'none'}"
    for index, (name, expected) in enumerate(reference.eager.items()):
        actual = answer[name]
        if actual.shape != expected.shape or actual.dtype != expected.dtype:
            return f"{name} is {actual.dtype.name}{list(actual.shape)}"
        rule = rule_of(tolerance, index, expected)
        for at in differing(actual, expected, _at(reference.undefined, index)):
            if not _allowed(rule, actual, expected, _at(reference.magnitudes, index), at):
                return f"{name} at {at}: {actual.flat[at]} for {expected.flat[at]}"
    return None


def same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    """True where two answers are the same bits in the same form."""
    return list(one) == list(other) and all(
        a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
        for a, b in zip(one.values(), other.values(), strict=True)
    )


def rule_of(tolerance: Tolerance, index: int, expected: Array) -> Rule:
    """The rule for one output: integers must be equal unless the spec gives that very output room."""
    rule = tolerance.by_output.get(index, tolerance.rule)
    if expected.dtype.name in FLOATING or (isinstance(rule, Close) and index in tolerance.by_output):
        return rule
    return Exact()


def room(rule: Rule, expected: Array, magnitudes: Array | None, at: int) -> Fraction:
    """How far from ``expected`` the element ``at`` may be by a rule that is not counted in ULP."""
    wanted = float(expected.flat[at])
    match rule:
        case Close(rtol, atol):
            return Fraction(atol) + Fraction(rtol) * abs(Fraction(wanted))
        case Scaled(n):
            assert magnitudes is not None
            terms = float(np.asarray(magnitudes).flat[at])
            gap, least = (Fraction(2) ** power for power in FLOATING[expected.dtype.name])
            return Fraction(n) * max(gap * Fraction(terms), least) if 0 < terms < math.inf else Fraction(0)
        case _:
            return Fraction(0)


def ordinal(array: Array, at: int) -> int:
    """The element's place among all numbers of its dtype, counted from zero; integers are their own."""
    item = array.reshape(-1)[at : at + 1]
    if item.dtype.name not in FLOATING:
        return int(item[0])
    bits = int.from_bytes(item.tobytes(), "little")
    sign = 1 << (8 * item.itemsize - 1)
    return -(bits - sign) if bits & sign else bits


def differing(actual: Array, expected: Array, undefined: Array | None) -> Iterator[int]:
    """The flat places where two arrays of one form hold other bits, and which the layer defines."""
    width = np.dtype(f"V{actual.itemsize}")
    one, other = (np.ascontiguousarray(side).reshape(-1).view(width) for side in (actual, expected))
    unlike = one != other if actual.size else np.zeros(0, dtype=np.bool_)
    if undefined is not None:
        unlike &= ~np.asarray(undefined).reshape(-1)
    yield from map(int, np.flatnonzero(unlike))


def _allowed(rule: Rule, actual: Array, expected: Array, magnitudes: Array | None, at: int) -> bool:
    if actual.dtype.name not in FLOATING:
        apart = abs(int(actual.flat[at]) - int(expected.flat[at]))
        return apart == 0 or (isinstance(rule, Close) and apart <= room(rule, expected, None, at))
    found, wanted = float(actual.flat[at]), float(expected.flat[at])
    if not (math.isfinite(found) and math.isfinite(wanted)):
        return found == wanted or (math.isnan(found) and math.isnan(wanted))
    if isinstance(rule, Ulp):
        return abs(ordinal(actual, at) - ordinal(expected, at)) <= rule.n
    return abs(Fraction(found) - Fraction(wanted)) <= room(rule, expected, magnitudes, at)


def _at(arrays: Sequence[Array | None], index: int) -> Array | None:
    return arrays[index] if index < len(arrays) else None
