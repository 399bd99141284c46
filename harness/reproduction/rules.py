"""The tolerance of a check as the script states it: a relative and an absolute bound for each output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.spec.tolerance import Close, Exact, Rule, Scaled, Tolerance, Ulp

EPSILON: Mapping[str, float] = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}

# The defaults of torch.testing.assert_close.
USUAL: Mapping[str, tuple[float, float]] = {
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
}


def bounds(
    tolerance: Tolerance, dtype: str, magnitudes: Sequence[float | None] = ()
) -> dict[int | None, tuple[float, float]]:
    """``(rtol, atol)`` by output index; None stands for every other output.

    Units in the last place become a relative bound. What is scaled by the terms' magnitudes becomes an absolute one, by
    the largest of ``magnitudes`` of an output; where that is not known, the default of torch.testing.assert_close.
    """
    scaled = {
        index: _pair(tolerance.rule, dtype, largest)
        for index, largest in enumerate(magnitudes)
        if largest is not None and isinstance(tolerance.rule, Scaled)
    }
    by_largest = dict(enumerate(magnitudes))
    named = {index: _pair(rule, dtype, by_largest.get(index)) for index, rule in tolerance.by_output.items()}
    return {None: _pair(tolerance.rule, dtype, None)} | scaled | named


def _pair(rule: Rule, dtype: str, largest: float | None) -> tuple[float, float]:
    match rule:
        case Exact():
            return 0.0, 0.0
        case Ulp(n):
            return n * EPSILON[dtype], 0.0
        case Close(rtol, atol):
            return rtol, atol
        case Scaled(n):
            return USUAL[dtype] if largest is None else (0.0, n * EPSILON[dtype] * largest)
