"""One number of ULP for everything."""

from __future__ import annotations

from harness.spec.tolerance import Exact, Rule, Tolerance, Ulp


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
