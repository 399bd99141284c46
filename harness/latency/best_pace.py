"""What each repetition would have come to at the machine's best pace, where the repetitions themselves tell.

A machine that is shared slows down for seconds and for minutes. Each repetition has its own pace
(:mod:`harness.latency.pace`), so the repetitions of one side show how far the call follows the machine, without regard
to what lies between the sides. That share is taken off: the analysis of covariance, with the pace as covariate and
Sen's median of slopes in place of least squares (Sen, *Estimates of the Regression Coefficient Based on Kendall's Tau*,
JASA 63, 1968; over pairs within a side only).
"""

from __future__ import annotations

from math import log

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# How a call follows a pace is much the same up to so many times the best one; beyond, another process had the core.
_NEAR = log(1.1)
# Paces that are less far apart than this tell nothing of how the call follows them.
_APART = 0.003
# A call that follows the pace by less than the least slope follows something else; more than the most is chance.
_LEAST, _MOST = 1 / 3, 1.5
# The paces of the sides may differ by so much of what they differ by within a side: beyond, no repetition tells.
_WITHIN = 2 / 3

Side = tuple[Floats, Floats]
"""Logarithms of the figures and of the paces, repetition by repetition."""


def at_best_pace(old: Side, new: Side, enough: int) -> tuple[Floats, Floats] | None:
    """The logarithms of both sides' figures, each brought to the best pace of all; those far from it are left out.

    None where the repetitions do not tell how the call follows the pace, or fewer than ``enough`` are left of a side.
    """
    best = float(min(old[1].min(), new[1].min()))
    old, new = _near(old, best), _near(new, best)
    if min(len(old[0]), len(new[0])) < enough:
        return None
    between = abs(float(np.median(new[1][:, None] - old[1][None, :])))
    if between > _WITHIN * max(float(np.ptp(old[1])), float(np.ptp(new[1]))):
        return None
    slope = _slope(old, new)
    if slope is None or slope < _LEAST:
        return None
    return _brought(old, best, slope), _brought(new, best, slope)


def _near(side: Side, best: float) -> Side:
    figures, paces = side
    near = paces <= best + _NEAR
    return figures[near], paces[near]


def _slope(*sides: Side) -> float | None:
    """By how much a figure grows with the pace; None where hardly any two paces of a side differ."""
    slopes: list[Floats] = []
    for figures, paces in sides:
        one, other = np.triu_indices(len(figures), 1)
        apart = paces[other] - paces[one]
        tell = np.abs(apart) > _APART
        slopes.append((figures[other] - figures[one])[tell] / apart[tell])
    found = np.concatenate(slopes)
    return float(np.median(found)) if len(found) > sum(len(figures) for figures, _ in sides) else None


def _brought(side: Side, best: float, slope: float) -> Floats:
    figures, paces = side
    return np.asarray(figures - min(slope, _MOST) * (paces - best), dtype=np.float64)
