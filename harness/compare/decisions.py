"""Decisions: what an output is used for, such as the class with the largest score, compared with the reference's.

A decision that differs is a tie if float64 says that the reference could have decided either way: the two candidates
are no farther apart than the reference's own largest error. Ties are counted apart and mean nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.spec.language.tolerances import CaseTolerance, Decisions, rules_of

Array = NDArray[Any]

CONFIDENCE_Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution, for two-sided intervals of 95 %."""


@dataclass(frozen=True, slots=True)
class DecisionCounts:
    """How many of ``of`` decisions agree, and how many of the others are ties.

    ``low`` and ``high`` are the 95 % interval of the share that agrees, ties left out. ``smallest_margin`` is the
    smallest distance between the chosen and the next candidate among the reference's decisions, None where nothing is
    chosen. ``first`` is the index of the first decision that differs and is no tie. ``most_frequent`` is the largest
    share of decisions of the reference that are the same.
    """

    by: str
    agree: int
    ties: int
    of: int
    low: float
    high: float
    smallest_margin: float | None
    first: tuple[int, ...] | None
    most_frequent: float

    @property
    def counted(self) -> int:
        """The number of decisions that are not ties."""
        return self.of - self.ties

    @property
    def share(self) -> float:
        """The share of the counted decisions that agree; 1 if all are ties."""
        return self.agree / self.counted if self.counted else 1.0

    def to_json(self) -> dict[str, Any]:
        """The counts as they stand in report.json."""
        return {
            "by": self.by,
            "agree": self.agree,
            "ties": self.ties,
            "of": self.of,
            "share": self.share,
            "interval": [self.low, self.high],
            "smallest_margin": self.smallest_margin,
        }


def require_axes(tolerance: CaseTolerance, outputs: Mapping[str, Array]) -> None:
    """Raise :class:`UsageError` for a rule about decisions along an axis that its output does not have."""
    for index, (name, values) in enumerate(outputs.items()):
        for rule in rules_of(tolerance.by_output.get(index, tolerance.rule)):
            if isinstance(rule, Decisions) and not _has_axis(rule, values):
                shape = f"{name} has shape {list(values.shape)}"
                remedy = f"write an axis from {-values.ndim} to {values.ndim - 1}" if values.ndim else "use `by: sign`"
                raise UsageError(f"tolerance: decisions: there is no axis {rule.axis}: {shape}; {remedy}")


def _has_axis(rule: Decisions, values: Array) -> bool:
    return rule.by not in {"argmax", "argmin"} or -values.ndim <= rule.axis < values.ndim


def count_decisions(
    rule: Decisions, actual: Array, expected: Array, float64: Array | None, own_error: float = 0.0
) -> DecisionCounts | str:
    """Count the decisions of two outputs of one shape; a string says why they have none.

    ``float64`` is the float64 reference of the same shape. Without it, a tie is within ``own_error``, the reference's
    largest error at other inputs: by default only a tie that is exact in the reference counts as one.
    """
    if not expected.size:
        return "the output has no elements"
    if not _has_axis(rule, expected):
        return f"there is no axis {rule.axis}: the output has shape {expected.shape}"
    exact = expected.astype(np.float64) if float64 is None else float64
    own_error = own_error if float64 is None else _largest(np.abs(expected.astype(np.float64) - float64))
    chosen, other = decide(rule, expected), decide(rule, actual)
    gap, margin = _gap(rule, exact, chosen, other), _margin(rule, exact)
    differs = chosen != other
    ties = differs & (gap <= own_error) & (rule.by != "value")
    wrong = differs & ~ties
    agree, of, tied = int(np.count_nonzero(~differs)), differs.size, int(np.count_nonzero(ties))
    low, high = wilson_interval(agree, of - tied)
    first = tuple(int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape)) if wrong.any() else None
    counts = np.unique(chosen, return_counts=True)[1]
    smallest = None if margin is None else float(np.nanmin(margin)) if not np.isnan(margin).all() else None
    return DecisionCounts(rule.by, agree, tied, of, low, high, smallest, first, float(counts.max() / of))


def wilson_interval(successes: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, J. Am. Stat. Assoc. 22, 1927); from 0 to 1 if nothing was counted."""
    if not of:
        return 0.0, 1.0
    share, z2 = successes / of, CONFIDENCE_Z**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = CONFIDENCE_Z / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return (max(0.0, middle - half) if successes else 0.0), (min(1.0, middle + half) if successes < of else 1.0)


def decide(rule: Decisions, values: Array) -> Array:
    """The decisions that an output stands for: indices along the axis, signs, or its values."""
    match rule.by:
        case "argmax":
            return np.asarray(_comparable(values).argmax(axis=rule.axis))
        case "argmin":
            return np.asarray(_comparable(values).argmin(axis=rule.axis))
        case "sign":
            return np.asarray(_comparable(values) > 0)
        case "value":
            return values


def _comparable(values: Array) -> Array:
    """``values`` in a dtype that NumPy can order; integers stay what they are."""
    return values if values.dtype.kind in "biu" else values.astype(np.float64)


def _gap(rule: Decisions, exact: Array, chosen: Array, other: Array) -> Array:
    """How far apart the two candidates are in float64; at ``sign``, how far from zero."""
    match rule.by:
        case "argmax" | "argmin":
            return np.asarray(np.abs(_at(exact, chosen, rule.axis) - _at(exact, other, rule.axis)))
        case "sign":
            return np.asarray(np.abs(exact))
        case "value":
            return np.zeros(chosen.shape)


def _margin(rule: Decisions, exact: Array) -> Array | None:
    """The distance of each decision from being another one; None where nothing is chosen among values."""
    match rule.by:
        case "argmax" | "argmin":
            if exact.shape[rule.axis] < 2:
                return None
            ordered = np.sort(exact if rule.by == "argmax" else -exact, axis=rule.axis)
            return np.asarray(np.take(ordered, -1, axis=rule.axis) - np.take(ordered, -2, axis=rule.axis))
        case "sign":
            return np.abs(exact)
        case "value":
            return None


def _at(values: Array, indices: Array, axis: int) -> Array:
    return np.take_along_axis(values, np.expand_dims(indices, axis), axis).squeeze(axis)


def percent(share: float) -> str:
    """A share in percent with four significant digits: ``99.8 %``."""
    return f"{100 * share:.4g} %"


def _largest(errors: Array) -> float:
    """The largest finite error; 0 if there is none."""
    return float(np.max(errors, where=np.isfinite(errors), initial=0.0))
