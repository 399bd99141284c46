"""The rules about an output as a whole: SQNR, cosine and decisions. No single value passes or fails under them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.decisions import DecisionCounts, count_decisions, percent
from harness.compare.metrics.similarity import cosine, sqnr
from harness.compare.numbers import NumberFormat, Pair, number_format
from harness.spec.language.tolerances import Cosine, Decisions, Sqnr

Array = NDArray[Any]

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
