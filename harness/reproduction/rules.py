"""The tolerance of a check as the script states it: a relative and an absolute bound for each output."""

from __future__ import annotations

from collections.abc import Mapping

from harness.spec.tolerance import Close, Exact, Rule, Scaled, Tolerance, Ulp

EPSILON: Mapping[str, float] = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}

# The defaults of torch.testing.assert_close.
USUAL: Mapping[str, tuple[float, float]] = {
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
}


def bounds(tolerance: Tolerance, dtype: str) -> dict[int | None, tuple[float, float]]:
    """``(rtol, atol)`` by output index; None stands for every other output.

    Units in the last place become a relative bound. What is scaled by the terms' magnitudes becomes the default of
    torch.testing.assert_close: a script for others does not count terms.
    """
    return {None: _pair(tolerance.rule, dtype)} | {
        index: _pair(rule, dtype) for index, rule in tolerance.by_output.items()
    }


def _pair(rule: Rule, dtype: str) -> tuple[float, float]:
    match rule:
        case Exact():
            return 0.0, 0.0
        case Ulp(n):
            return n * EPSILON[dtype], 0.0
        case Close(rtol, atol):
            return rtol, atol
        case Scaled():
            return USUAL[dtype]
