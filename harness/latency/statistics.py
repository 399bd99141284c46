"""What samples come to: their median with an interval that assumes nothing of their distribution, and their tail.

How many times as long one call takes as another, from samples of the same rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from math import exp, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Samples = Sequence[float] | NDArray[np.float64]

CONFIDENCE = 0.95

# A percentile is told where this many samples lie beyond it; nearer the end it is the luck of one sample.
_BEYOND = 5


@dataclass(frozen=True, slots=True)
class Summary:
    """In the samples' unit. ``low`` and ``high`` enclose the true median with 95% confidence, None under six samples.

    ``iqr`` is the distance of the quartiles, ``mad`` the median distance from the median. ``p90`` and ``p99`` are None
    where too few samples lie beyond them.
    """

    count: int
    median: float
    low: float | None
    high: float | None
    iqr: float
    mad: float
    p90: float | None
    p99: float | None


def summarise(samples: Samples) -> Summary:
    """The summary of at least one sample."""
    values = np.sort(np.asarray(samples, dtype=np.float64))
    count = len(values)
    median = float(np.median(values))
    lower, upper = np.quantile(values, (0.25, 0.75))
    rank = median_rank(count)
    return Summary(
        count=count,
        median=median,
        low=None if rank is None else float(values[rank]),
        high=None if rank is None else float(values[count - 1 - rank]),
        iqr=float(upper - lower),
        mad=float(np.median(np.abs(values - median))),
        p90=_percentile(values, 0.90),
        p99=_percentile(values, 0.99),
    )


def summarise_groups(groups: Sequence[Samples]) -> Summary:
    """The summary of several processes' samples: the median and its interval are those of the processes' medians.

    Samples of one process share its memory layout and its moment, so that they are not independent of each other; the
    processes are. Spread and percentiles are of all samples together.
    """
    of_all, of_medians = summarise(np.concatenate(groups)), summarise([float(np.median(group)) for group in groups])
    return replace(of_all, median=of_medians.median, low=of_medians.low, high=of_medians.high)


def largest_split(values: Samples) -> float:
    """The A/A comparison: how far apart the medians of two halves of ``values`` can be, relative to the lower one.

    Of all ways to split the values in two, the lower half against the upper half differs most. The middle one of an odd
    number is left out.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    half = len(ordered) // 2
    return float(np.median(ordered[-half:]) / np.median(ordered[:half]) - 1)


@cache
def median_rank(count: int, confidence: float = CONFIDENCE) -> int | None:
    """The place, from either end of the sorted samples, of the bounds of the interval for the median.

    The number of samples below the true median is binomial with probability 1/2, whatever the distribution (David and
    Nagaraja, *Order Statistics*, 7.1). The largest rank is taken that keeps ``confidence``; None where none does.
    """
    allowed = Fraction((1 - confidence) / 2) * 2**count  # no float holds 2**1024
    below, rank, ways = 0, None, 1
    for place in range(count // 2 + 1):
        below += ways
        if below > allowed:
            break
        rank, ways = place, ways * (count - place) // (place + 1)
    return rank


def _percentile(values: NDArray[np.float64], fraction: float) -> float | None:
    return float(np.quantile(values, fraction)) if len(values) * (1 - fraction) >= _BEYOND - 1e-9 else None


# Up to here the distribution of the rank sum is counted out; beyond, the normal distribution is close enough.
_EXACT = 60


@dataclass(frozen=True, slots=True)
class Ratio:
    """``value`` times as long; ``low`` and ``high`` enclose it with 95% confidence, None under six rounds."""

    value: float
    low: float | None
    high: float | None


def paired_ratio(samples: Samples, baseline: Samples) -> Ratio:
    """The Hodges-Lehmann estimate of the ratio of ``samples`` to ``baseline``, round by round.

    The logarithms of the ratios of one round are averaged in pairs (each with itself too); the median of these averages
    is the estimate, and its interval inverts Wilcoxon's signed-rank test (Hollander, Wolfe and Chicken, *Nonparametric
    Statistical Methods*, 3.2 and 3.3). What slows both calls of a round down by the same factor cancels.
    """
    logs = np.log(np.asarray(samples, dtype=np.float64)) - np.log(np.asarray(baseline, dtype=np.float64))
    count = len(logs)
    upper = np.triu_indices(count)
    averages = np.sort((logs[:, None] + logs[None, :])[upper] / 2)
    rank = signed_rank(count)
    return Ratio(
        value=exp(float(np.median(averages))),
        low=None if rank is None else exp(float(averages[rank])),
        high=None if rank is None else exp(float(averages[len(averages) - 1 - rank])),
    )


@cache
def signed_rank(count: int, confidence: float = CONFIDENCE) -> int | None:
    """The place, from either end of the sorted averages, of the interval's bounds; None where none keeps confidence."""
    allowed = (1 - confidence) / 2
    if count > _EXACT:
        mean, deviation = count * (count + 1) / 4, sqrt(count * (count + 1) * (2 * count + 1) / 24)
        return int(mean + NormalDist().inv_cdf(allowed) * deviation - 0.5)
    # How many subsets of the ranks 1..count have each sum: a polynomial's coefficients.
    ways = np.array([1.0])
    for rank in range(1, count + 1):
        longer = np.concatenate([ways, np.zeros(rank)])
        longer[rank:] += ways
        ways = longer
    likely = np.cumsum(ways) / 2.0**count
    keeps = np.flatnonzero(likely <= allowed)
    return int(keeps[-1]) if len(keeps) else None
