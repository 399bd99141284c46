"""Decisions: what an output is used for, such as the class with the largest score, compared with the reference's.

A decision that differs is a tie if float64 says that the reference could have decided either way: the two candidates
are no farther apart than the reference's own largest error. Ties are counted apart and mean nothing. So are decisions
that the reference makes among NaN.

:func:`judge_whole_output` has the rules about an output as a whole: decisions, SQNR and cosine. No single value passes
or fails under them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.metrics.similarity import cosine, sqnr
from harness.compare.numbers import NumberFormat, Pair, number_format
from harness.errors import UsageError
from harness.spec.language.tolerances import CaseTolerance, Cosine, Decisions, Sqnr, rules_of

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
    differs, undecided = chosen != other, _undecided(rule, expected)
    ties = undecided | (differs & (gap <= own_error) & (rule.by != "value"))
    wrong = differs & ~ties
    agree, of, tied = int(np.count_nonzero(~differs & ~ties)), differs.size, int(np.count_nonzero(ties))
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


def _undecided(rule: Decisions, expected: Array) -> Array:
    """The decisions that the reference makes among NaN: whether another one is the same means nothing."""
    missing = np.isnan(_comparable(expected)) if expected.dtype.kind not in "biuO" else np.zeros(expected.shape, bool)
    return np.asarray(missing.any(axis=rule.axis) if rule.by in {"argmax", "argmin"} else missing)


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


_FLOAT64 = number_format(np.dtype(np.float64)) or NumberFormat("floating")


@dataclass(frozen=True, slots=True)
class WholeOutputJudgement:
    """The outcome of a rule about a whole output.

    ``problem`` is None if the output passes. ``inconclusive`` is the reason why a pass says little: an output that is
    the same everywhere would pass too. ``decisions`` are the counts as in report.json.
    """

    problem: str | None = None
    inconclusive: str | None = None
    decisions: Mapping[str, Any] | None = None


def judge_whole_output(
    rule: Sqnr | Cosine | Decisions, pair: Pair, actual: Array, expected: Array, float64: Array | None
) -> WholeOutputJudgement:
    """Judge one output. ``pair`` holds its finite values; ``float64`` has the shape of the outputs, or is None."""
    match rule:
        case Sqnr(pooled=True):
            return WholeOutputJudgement()
        case Sqnr(least):
            measured = sqnr(pair)
            problem = _too_low(measured, least, "SQNR", " dB")
            return WholeOutputJudgement(problem, _constant_passes(pair, least, sqnr))
        case Cosine(least):
            measured = cosine(pair)
            problem = _too_low(measured, least, "cosine", "")
            if measured is None and pair.actual.size and pair.format.kind == "floating":
                problem = f"cosine undefined: one side is all zeros; allowed: at least {least:g}"
            return WholeOutputJudgement(problem, _constant_passes(pair, least, cosine))
        case Decisions():
            counts = count_decisions(rule, actual, expected, float64)
            if isinstance(counts, str):
                return WholeOutputJudgement(counts)
            return WholeOutputJudgement(decisions=counts.to_json()) if rule.pooled else _judge_decisions(rule, counts)


def _too_low(measured: float | None, least: float, name: str, unit: str) -> str | None:
    """The sentence about a measure below its bound; None if it is high enough or there is nothing to measure."""
    if measured is None or measured >= least:
        return None
    return f"{name} {_digits(measured)}{unit}; allowed: at least {least:g}{unit}"


def _digits(measured: float) -> str:
    """Four significant digits, and more where they would round up to the bound 1."""
    return f"{measured:.4g}" if abs(measured) < 0.9999 or abs(measured) >= 1 else f"{measured:.8f}"


def _constant_passes(pair: Pair, least: float, measure: Callable[[Pair], float | None]) -> str | None:
    """Why a pass says little: zeros or the mean everywhere would reach the bound too."""
    expected = pair.expected.astype(np.float64)
    mean = float(expected.mean()) if expected.size else 0.0
    for constant, name in ((0.0, "an all-zero output"), (mean, f"an output of {mean:.4g} everywhere (the mean)")):
        output = Pair(np.full_like(expected, constant), expected, _FLOAT64)
        value = measure(output)
        if value is not None and value >= least and not output.equal:
            return f"{name} would pass too"
    return None


def _judge_decisions(rule: Decisions, counts: DecisionCounts) -> WholeOutputJudgement:
    wrong = counts.of - counts.ties - counts.agree
    problem = None
    if counts.counted and counts.share < rule.at_least:
        decisions = "decision" if counts.counted == 1 else "decisions"
        ties = f", {counts.ties} further are ties" if counts.ties else ""
        problem = (
            f"{wrong} of {counts.counted} {decisions} by {rule.by} {'differs' if wrong == 1 else 'differ'}{ties}; "
            f"first at {list(counts.first or ())}; agreement {percent(counts.share)} "
            f"(95 % interval {percent(counts.low)} to {percent(counts.high)}), allowed: at least "
            f"{percent(rule.at_least)}"
        )
    inconclusive = None
    if not counts.counted:
        inconclusive = "all decisions are ties, so none was compared"
    elif counts.most_frequent >= rule.at_least:
        inconclusive = (
            f"{percent(counts.most_frequent)} of the reference's decisions are the same: an output that always "
            "decides so would pass too"
        )
    return WholeOutputJudgement(problem, inconclusive, counts.to_json())
