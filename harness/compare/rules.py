"""The tolerance rules, value by value: what a rule measures and how much it allows.

All arithmetic is in float64 or in exact integers. Comparing therefore loses nothing of float16, bfloat16, float32 and
the integers, and at most one rounding of float64. No rule counts the sign of zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.numbers import Pair
from harness.deprecated import accept_old_names, old_attributes
from harness.spec.language.tolerances import (
    Calibrated,
    Close,
    Decisions,
    Exact,
    OneRule,
    Rule,
    Scaled,
    Tolerance,
    Ulp,
    rules_of,
)

Array = NDArray[Any]

_MAX_ULPS = 2**64 - 1


@old_attributes(outside="exceeded")
@dataclass(frozen=True, slots=True)
class Allowance:
    """What a rule measures of each value, and the largest measure it allows. Neither holds a NaN."""

    measure: Array
    limit: Any

    @property
    def exceeded(self) -> NDArray[np.bool_]:
        """True at the values that differ by more than the rule allows."""
        exceeded: NDArray[np.bool_] = self.measure > self.limit
        return exceeded


def rule_for(tolerance: Tolerance, index: int, *, floating: bool, flips: bool = False) -> Rule:
    """The rule for the output at ``index``.

    Integers, bools and text must be equal whatever the general rule is, because they are not rounded. Only ``Close``
    and ``Decisions`` under ``by_output`` for this very output loosen that, and ``Calibrated`` where the reference's own
    rounding ``flips`` integers; the others have no meaning for them.
    """
    rule = tolerance.for_output(index)
    loosens = index in tolerance.by_output and all(isinstance(each, Close | Decisions) for each in rules_of(rule))
    return rule if floating or loosens or (flips and isinstance(rule, Calibrated)) else Exact()


def allowance(rule: OneRule, pair: Pair, magnitudes: Array | None = None) -> Allowance:
    """What ``rule`` allows for each value of ``pair``; ``magnitudes`` is flat, like the pair.

    A rule about the whole output allows any difference of one value. Raises ``ValueError`` for ``Scaled`` without
    magnitudes, and for a rule with a bound that is negative or not finite.
    """
    match rule:
        case Exact():
            return Allowance(pair.ulps, np.uint64(0))
        case Ulp(n):
            return Allowance(pair.ulps, np.uint64(min(_valid_bound(n, rule), _MAX_ULPS)))
        case Close(rtol, atol):
            return close_allowance(pair, _valid_bound(rtol, rule), _valid_bound(atol, rule))
        case Scaled(n):
            return _scaled_allowance(pair, _valid_bound(n, rule), magnitudes)
        case _:
            return Allowance(pair.distance, np.float64(np.inf))


def close_allowance(pair: Pair, rtol: float, atol: float) -> Allowance:
    """``|actual - expected| <= atol + rtol * |expected|``; for integers with their exact difference."""
    limit = pair.magnitude * rtol + pair.unit * atol
    if pair.format.kind != "integer":
        return Allowance(pair.distance, limit)
    ulps = np.minimum(np.floor(limit), 2.0**64 - 2048).astype(np.uint64)
    return Allowance(pair.ulps, np.where(limit >= 2.0**64, np.uint64(_MAX_ULPS), ulps))


def _scaled_allowance(pair: Pair, n: float, magnitudes: Array | None) -> Allowance:
    """``n * eps * magnitude``, but at least ``n`` smallest subnormals.

    A result below the normal range cannot be more accurate than its spacing (Higham, section 2.2, on underflow).
    Terms that are all zero, or whose magnitude is not finite, allow nothing.
    """
    if magnitudes is None:
        raise ValueError("a scaled tolerance needs the sum of magnitudes of terms; none was passed for this output")
    usable = (magnitudes > 0) & np.isfinite(magnitudes)
    limit = np.where(usable, n * np.maximum(pair.format.eps * magnitudes, pair.format.smallest), 0.0)
    return Allowance(pair.distance, limit * pair.unit)


def _valid_bound(value: float, rule: Rule) -> Any:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"invalid tolerance {rule}: its numbers must be finite and not negative")
    return value


def strict_ulp(tolerance: Tolerance, n: int) -> Tolerance:
    """``tolerance`` with every rule replaced by ``n`` ULP, except for rules that are exact or already fewer ULP.

    Integers, bools and text stay exact. Raises ``ValueError`` for a negative ``n``.
    """
    if n < 0:
        raise ValueError(f"invalid tolerance {n} ulp: it must be 0 or more")
    return tolerance.map(lambda rule: _strict_rule(rule, n))


def _strict_rule(rule: OneRule, n: int) -> OneRule:
    match rule:
        case Exact():
            return rule
        case Ulp(m):
            return Ulp(min(m, n))
        case _:
            return Ulp(n)


accept_old_names(__name__)
