"""Statistics of samples: the median with a distribution-free interval, the tail, and the ratio of two calls."""

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

# A percentile is given where this many samples lie beyond it; nearer the end it depends on the luck of one sample.
_MIN_BEYOND = 5

# Up to this count the distribution of the signed rank is computed exactly; beyond, the normal distribution is close
# enough.
_EXACT = 60


@dataclass(frozen=True, slots=True)
class Summary:
    """In the samples' unit. ``low`` and ``high`` enclose the true median with 95% confidence, None under six samples.

    ``iqr`` is the interquartile range, ``mad`` the median absolute deviation from the median. ``p90`` and ``p99`` are
    None where too few samples lie beyond them.
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
    """Summarise at least one sample."""
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
    """Summarise the samples of several processes: median and interval are those of the processes' medians.

    Samples of one process share its memory layout and its moment, so they are not independent of each other; the
    processes are. Spread and percentiles are those of all samples together.
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
    """The index, from either end of the sorted samples, of the bounds of the median's interval; None without one.

    The number of samples below the true median is binomial with probability 1/2, whatever the distribution (David and
    Nagaraja, *Order Statistics*, 7.1). The largest rank that keeps ``confidence`` is taken.
    """
    allowed = Fraction((1 - confidence) / 2) * 2**count  # no float holds 2**1024
    below, rank, ways = 0, None, 1
    for index in range(count // 2 + 1):
        below += ways
        if below > allowed:
            break
        rank, ways = index, ways * (count - index) // (index + 1)
    return rank


def _percentile(values: NDArray[np.float64], fraction: float) -> float | None:
    return float(np.quantile(values, fraction)) if len(values) * (1 - fraction) >= _MIN_BEYOND - 1e-9 else None


@dataclass(frozen=True, slots=True)
class Ratio:
    """A call takes ``value`` times as long as another; ``low`` and ``high`` enclose it with 95% confidence.

    They are None under six rounds.
    """

    value: float
    low: float | None
    high: float | None


def paired_ratio(samples: Samples, baseline: Samples) -> Ratio:
    """The Hodges-Lehmann estimate of the ratio of ``samples`` to ``baseline``, paired by round.

    The logarithms of the ratios of one round are averaged in pairs (each with itself too). The median of these averages
    is the estimate, and its interval inverts Wilcoxon's signed-rank test (Hollander, Wolfe and Chicken, *Nonparametric
    Statistical Methods*, 3.2 and 3.3). A factor that slows both calls of a round alike cancels.
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
    """The index, from either end of the sorted averages, of the interval's bounds; None where there is no interval."""
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
    cumulative = np.cumsum(ways) / 2.0**count
    within = np.flatnonzero(cumulative <= allowed)
    return int(within[-1]) if len(within) else None
