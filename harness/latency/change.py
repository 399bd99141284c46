"""Has a call become slower? The rule by which two measurements are held against each other.

A change counts only if it is significant, above the noise of the machine that measured it, and at least as large as
what was said to matter. And it is no change of the call where the machine's own pace (:mod:`harness.latency.conditions`)
changed in the same direction, by half as much or more: then the machine has changed.

    the interval  | the estimate                             | the machine's pace           | verdict
    --------------|------------------------------------------|------------------------------|-------------
    lies above 1  | above what matters and above the noise   | did not slow down, by half   | slower
    lies below 1  | as far below                             | did not speed up, by half    | faster
    lies within what matters                                 | did not move by what matters | no change
    all else                                                                                | inconclusive

Where the repetitions of a side show how the call follows the machine's pace, all of them are brought to its best pace
first (:mod:`harness.latency.conditions`), and the pace has had its say. Elsewhere it is a witness and no unit: what
slows a machine down slows arithmetic in the first cache, which the pace is, by more than most models, so that figures
divided by it would spread more widely than the figures themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, comb, exp, expm1, log1p, sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.latency.conditions import at_best_pace
from harness.latency.statistics import largest_split

Verdict = Literal["slower", "faster", "no change", "inconclusive"]
Floats = NDArray[np.float64]

FALSE_ALARMS = 0.01
"""So often may a comparison of equals call itself a change, over all comparisons that are made together."""

# A machine whose pace changed by this share of what the call did may have done it.
_WITNESS = 0.5
# Up to so many pairs of values the distribution of the rank sum is counted out.
_EXACT = 20 * 20
# More than so many times as much measuring is not worth proposing.
_BEARABLE = 100


@dataclass(frozen=True, slots=True)
class Side:
    """One measurement: a value for each repetition that is independent of the others, in microseconds.

    A repetition is a process with ``rounds`` rounds in it, or, where all of it is one process, a round. ``pace_us`` are
    the paces meanwhile; None where there is none that both sides have in common.
    """

    values_us: Sequence[float]
    pace_us: Sequence[float] | None = None
    rounds: int = 1


@dataclass(frozen=True, slots=True)
class Change:
    """``ratio`` times as long as before, between ``low`` and ``high``, which are None where nothing can be told.

    ``noise`` is the machine's own, as a ratio above 1. ``old_us`` and ``new_us`` are the medians of what was held
    against each other, ``at_best_pace`` of the machine where the repetitions tell. ``more_rounds`` is how many further
    rounds would probably settle an inconclusive comparison, None where no number would, and ``why`` says why it is one.
    """

    verdict: Verdict
    ratio: float
    low: float | None
    high: float | None
    noise: float
    old_us: float
    new_us: float
    at_best_pace: bool = False
    more_rounds: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class _View:
    """The logarithm of a ratio, with its interval; ``noise`` is that of both sides."""

    estimate: float
    low: float | None
    high: float | None
    noise: float

    @property
    def direction(self) -> int:
        """1 where it is significantly more than before, -1 where less, and 0 where neither is significant."""
        if self.low is None or self.high is None:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


_STEADY = _View(0.0, None, None, 0.0)  # the pace of a machine of which nothing is known


def change(
    old: Side, new: Side, *, min_effect: float = 0.03, noise: float | None = None, comparisons: int = 1
) -> Change:
    """Hold ``new`` against ``old``.

    ``min_effect`` is the least relative change that matters. ``noise`` is the machine's, relative; where it is None, it
    is the A/A comparison of the repetitions of each side with each other: the largest there is, or, at one pace, those
    of a time with those of another. ``comparisons`` that are made together share the false alarms (Bonferroni).
    """
    confidence = 1 - FALSE_ALARMS / comparisons
    values = _logs(old.values_us), _logs(new.values_us)
    pace, brought = _STEADY, None
    if old.pace_us is not None and new.pace_us is not None:
        paces = _logs(old.pace_us), _logs(new.pace_us)
        brought = at_best_pace((values[0], paces[0]), (values[1], paces[1]), _enough(confidence))
        if brought is None:
            pace = _view(*paces, confidence, noise)
        else:
            values, noise = brought, max(map(_drift, brought)) if noise is None else noise
    call = _view(*values, confidence, noise)
    matters = log1p(min_effect)
    verdict = _verdict(call, pace, matters)
    more, why = (None, "")
    if verdict == "inconclusive":
        repetitions = min(map(len, values))
        more, why = _what_would_settle(call, pace, matters, repetitions, confidence)
    return Change(
        verdict=verdict,
        ratio=exp(call.estimate),
        low=None if call.low is None else exp(call.low),
        high=None if call.high is None else exp(call.high),
        noise=exp(call.noise),
        old_us=exp(float(np.median(values[0]))),
        new_us=exp(float(np.median(values[1]))),
        at_best_pace=brought is not None,
        more_rounds=None if more is None else more * max(old.rounds, new.rounds),
        why=why,
    )


def _view(old: Floats, new: Floats, confidence: float, noise: float | None) -> _View:
    """The Hodges-Lehmann estimate of the shift, and the interval that inverts the rank sum test.

    The median of all differences between a value of one side and one of the other; the interval's bounds are
    differences too (Hollander, Wolfe and Chicken, *Nonparametric Statistical Methods*, 4.2 and 4.3).
    """
    differences = np.sort((new[:, None] - old[None, :]).ravel())
    rank = rank_sum(len(old), len(new), confidence)
    return _View(
        estimate=float(np.median(differences)),
        low=None if rank is None else float(differences[rank]),
        high=None if rank is None else float(differences[len(differences) - 1 - rank]),
        noise=max(_noise(old), _noise(new)) if noise is None else log1p(noise),
    )


def _verdict(call: _View, pace: _View, matters: float) -> Verdict:
    if call.low is None or call.high is None or _is_the_machines(call, pace, matters):
        return "inconclusive"
    if call.direction and abs(call.estimate) > max(matters, call.noise):
        return "slower" if call.direction > 0 else "faster"
    if -matters < call.low and call.high < matters:
        return "no change"
    return "inconclusive"


def _is_the_machines(call: _View, pace: _View, matters: float) -> bool:
    """True where the machine has changed so much that what the call did may be the machine's own.

    Or may hide what the call did: where the call stayed as it was on a machine that did not.
    """
    kind = _kind(call.estimate, matters)
    if not kind:
        return bool(pace.direction) and abs(pace.estimate) > matters
    return kind * pace.estimate >= _WITNESS * abs(call.estimate)


def _what_would_settle(
    call: _View, pace: _View, matters: float, repetitions: int, confidence: float
) -> tuple[int | None, str]:
    """How many further repetitions would, if all else stayed as it is, and why it is not settled now."""
    if _is_the_machines(call, pace, matters):
        return None, f"the machine's own pace changed by {_percent(abs(pace.estimate))}"
    if _kind(call.estimate, matters) and abs(call.estimate) <= call.noise:
        return None, f"the machine's own noise is {_percent(call.noise)}"
    needed = _needed(call, matters, repetitions, confidence)
    if needed > _BEARABLE * repetitions:
        return None, "the figures spread too widely"
    return max(1, needed - repetitions), "the interval is too wide"


def _kind(estimate: float, matters: float) -> int:
    """Which of slower (1), faster (-1) and no change (0) the estimate alone would say."""
    return 0 if abs(estimate) <= matters else 1 if estimate > 0 else -1


def _needed(view: _View, matters: float, repetitions: int, confidence: float) -> int:
    """So many repetitions make the interval narrow enough: its width falls with the square root of their number."""
    if view.low is None or view.high is None:
        return _enough(confidence)
    below, above = view.estimate - view.low, view.high - view.estimate
    match _kind(view.estimate, matters):
        case 1:
            factor = below / view.estimate
        case -1:
            factor = above / -view.estimate
        case _:
            tiny = 1e-9  # an estimate right on the edge will never be told from it
            factor = max(above / max(matters - view.estimate, tiny), below / max(matters + view.estimate, tiny))
    return ceil(min(repetitions * factor**2, 1e9))


def _enough(confidence: float) -> int:
    """The least number of repetitions on each side for which there is an interval."""
    return next(count for count in range(2, 100) if 2 / comb(2 * count, count) <= 1 - confidence)


def _logs(values: Sequence[float]) -> Floats:
    return np.log(np.asarray(values, dtype=np.float64))


def _noise(logs: Floats) -> float:
    return log1p(largest_split(np.exp(logs - logs[0]))) if len(logs) > 1 else 0.0


def _drift(logs: Floats) -> float:
    """The A/A comparison of repetitions at one pace, relative: the earlier with the later, and every second one."""
    half = len(logs) // 2
    splits = ((logs[:half], logs[half:]), (logs[::2], logs[1::2]))
    return float(expm1(max(abs(np.median(other[:, None] - one[None, :])) for one, other in splits)))


def _percent(log: float) -> str:
    return f"{100 * (exp(log) - 1):.1f}%"


@cache
def rank_sum(old: int, new: int, confidence: float) -> int | None:
    """The place, from either end of the sorted differences, of the interval's bounds; None where none keeps it.

    The place is that of the critical value of the Mann-Whitney statistic: how many of the ways to deal ``old + new``
    ranks to the sides give each value is the coefficient of a Gaussian binomial.
    """
    allowed = (1 - confidence) / 2
    if old * new > _EXACT:
        mean, deviation = old * new / 2, sqrt(old * new * (old + new + 1) / 12)
        place = int(mean + NormalDist().inv_cdf(allowed) * deviation - 0.5)
        return place if place >= 0 else None
    tail, rank, whole = 0, None, comb(old + new, old)
    for place, ways in enumerate(_gaussian_binomial(old, new)):
        tail += ways
        if tail > allowed * whole:
            break
        rank = place
    return rank


def _gaussian_binomial(old: int, new: int) -> list[int]:
    """In how many ways ``old`` values can stand among ``new`` others, by the Mann-Whitney statistic from 0 on."""
    size = old * new + 1
    ways = [1] + [0] * (size - 1)
    for step in range(1, old + 1):
        for place in range(size - 1, new + step - 1, -1):  # times 1 - q^(new + step)
            ways[place] -= ways[place - new - step]
        for place in range(step, size):  # divided by 1 - q^step
            ways[place] += ways[place - step]
    return ways
