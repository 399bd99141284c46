"""The four rules, element by element: what is measured, and how much of it is allowed.

All arithmetic is in float64 or in exact integers, so that comparing loses nothing of float16, bfloat16, float32 and
the integers, and no more than one rounding of float64. The sign of zero counts under no rule.

One number of ULP for everything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.numbers import Pair
from harness.spec.language.tolerances import Close, Exact, Rule, Scaled, Tolerance, Ulp

Array = NDArray[Any]

_MOST_STEPS = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a rule measures of each element, and the most of it that it allows; neither holds a NaN."""

    measure: Array
    limit: Any

    @property
    def outside(self) -> NDArray[np.bool_]:
        """True at the elements that the rule refuses."""
        outside: NDArray[np.bool_] = self.measure > self.limit
        return outside


def rule_for(tolerance: Tolerance, index: int, *, floating: bool) -> Rule:
    """The rule that output ``index`` is held to.

    Integers, bools and text are held to equality whatever the rule for all outputs is, since rounding excuses nothing
    there. Only a ``Close`` that names the very output loosens that: ULP and eps have no meaning for them.
    """
    rule = tolerance.for_output(index)
    if floating or (index in tolerance.by_output and isinstance(rule, Close)):
        return rule
    return Exact()


def allowance(rule: Rule, pair: Pair, magnitudes: Array | None = None) -> Allowance:
    """What ``rule`` allows for each element of ``pair``; ``magnitudes`` is flat, like the pair.

    Raises ``ValueError`` for ``Scaled`` without magnitudes, and for a rule with a bound that is negative or not finite.
    """
    match rule:
        case Exact():
            return Allowance(pair.steps, np.uint64(0))
        case Ulp(n):
            return Allowance(pair.steps, np.uint64(min(_bound(n, rule), _MOST_STEPS)))
        case Close(rtol, atol):
            return close(pair, _bound(rtol, rule), _bound(atol, rule))
        case Scaled(n):
            return _scaled(pair, _bound(n, rule), magnitudes)


def close(pair: Pair, rtol: float, atol: float) -> Allowance:
    """``|actual - expected| <= atol + rtol * |expected|``; integers by their exact difference."""
    limit = pair.size * rtol + pair.unit * atol
    if pair.form.kind != "integer":
        return Allowance(pair.distance, limit)
    steps = np.minimum(np.floor(limit), 2.0**64 - 2048).astype(np.uint64)
    return Allowance(pair.steps, np.where(limit >= 2.0**64, np.uint64(_MOST_STEPS), steps))


def _scaled(pair: Pair, n: float, magnitudes: Array | None) -> Allowance:
    """``n`` times the rounding unit of the terms: ``eps * magnitude``, or the smallest subnormal where that is more.

    A result below the normal range cannot be nearer to the truth than its spacing (Higham, section 2.2, on underflow).
    Terms that are all zero, or whose magnitude is not finite, excuse nothing.
    """
    if magnitudes is None:
        raise ValueError("a scaled tolerance needs the sum of the terms' magnitudes; none is given for this output")
    excused = (magnitudes > 0) & np.isfinite(magnitudes)
    limit = np.where(excused, n * np.maximum(pair.form.eps * magnitudes, pair.form.smallest), 0.0)
    return Allowance(pair.distance, limit * pair.unit)


def _bound(value: float, rule: Rule) -> Any:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"a tolerance of {rule} bounds nothing; its numbers must be finite and not negative")
    return value


def strict_ulp(tolerance: Tolerance, n: int) -> Tolerance:
    """``tolerance`` with every rule replaced by ``n`` ULP, save where it was exact or fewer ULP already.

    Integers, bools and text stay exact. Raises ``ValueError`` for a negative ``n``.
    """
    if n < 0:
        raise ValueError(f"{n} ulp is no tolerance; 0 or more would be")
    rule = _strict(tolerance.rule, n)
    return Tolerance(rule, {index: _strict(named, n) for index, named in tolerance.by_output.items()})


def _strict(rule: Rule, n: int) -> Rule:
    match rule:
        case Exact():
            return rule
        case Ulp(m):
            return Ulp(min(m, n))
        case _:
            return Ulp(n)
