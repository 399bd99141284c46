"""How far an answer may be from the truth, when it is asked which of several answers is the right one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.spec.tolerance import Close, Exact, Rule, Scaled, Tolerance, Ulp

Array = NDArray[Any]

AS_NEAR = 2.0
"""An answer is as near to the truth as another if it is at most so many times as far."""


def with_room(tolerance: Tolerance) -> Tolerance:
    """``tolerance`` with room for one rounding more: the truth in float64 was rounded too."""
    return Tolerance(_with_room(tolerance.rule), {at: _with_room(rule) for at, rule in tolerance.by_output.items()})


def distance(values: Array, truth: Array) -> float:
    """The largest absolute error; infinite where shapes, NaN or infinities do not agree."""
    return float(apart(values, truth).max(initial=0.0)) if values.shape == truth.shape else np.inf


def apart(values: Array, truth: Array) -> Array:
    """The absolute error of each element of two arrays of one shape; infinite where NaN or infinities do not agree."""
    wide, exact = values.astype(np.float64), truth.astype(np.float64)
    same = (wide == exact) | (np.isnan(wide) & np.isnan(exact))
    with np.errstate(invalid="ignore"):
        errors = np.where(same, 0.0, np.abs(wide - exact))
    return np.nan_to_num(errors, nan=np.inf, posinf=np.inf)


def _with_room(rule: Rule) -> Rule:
    match rule:
        case Exact():
            return Ulp(2)
        case Ulp(n):
            return Ulp(n + 2)
        case Close(rtol, atol):
            return replace(rule, rtol=2 * rtol, atol=2 * atol)
        case Scaled(n):
            return Scaled(n + 1)
