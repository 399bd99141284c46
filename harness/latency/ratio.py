"""How many times as long one call takes as another, from samples of the same rounds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import exp, sqrt
from statistics import NormalDist

import numpy as np

from harness.latency.statistics import CONFIDENCE, Samples

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
