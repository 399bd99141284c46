"""Has a call become slower? The rule that compares two measurements.

A change counts only if it is significant, above the noise of the machine that measured it, and at least as large as the
minimum effect. It is not a change of the call where the machine's own speed, which the calibration loop shows
(:mod:`harness.latency.conditions`), changed in the same direction by at least half as much: then the machine has
changed.

    the interval  | the estimate                               | the machine                  | verdict
    --------------|--------------------------------------------|------------------------------|-------------
    lies above 1  | above the minimum effect and the noise     | did not slow down by half    | slower
    lies below 1  | below, by the same rule                    | did not speed up by half     | faster
    lies within the minimum effect                             | did not move by it           | no change
    everything else                                                                           | inconclusive

Where the repetitions of a side show how the call follows the machine's speed, all times are normalised first
(:func:`harness.latency.conditions.normalised_times`), and the speed is not considered again. Elsewhere the calibration
time is evidence and not a unit. What slows a machine down slows arithmetic in the first cache, which the calibration
loop is, by more than most models. Times divided by it would vary more than the times themselves.
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

from harness.latency.conditions import normalised_times
from harness.latency.statistics import largest_split

Verdict = Literal["slower", "faster", "no change", "inconclusive"]
Floats = NDArray[np.float64]

FALSE_ALARMS = 0.01
"""The rate at which equal calls may be reported as a change, over all comparisons that are made together."""

# A machine whose speed changed by this share of the call's change may have caused it.
_MACHINE_SHARE = 0.5
# Up to so many pairs of values the distribution of the rank sum is computed exactly.
_EXACT = 20 * 20
# More than so many times as many repetitions are not worth proposing.
_MAX_FACTOR = 100


@dataclass(frozen=True, slots=True)
class Side:
    """One measurement: a value for each independent repetition, in microseconds.

    A repetition is a process with ``rounds`` rounds in it, or a single round where there is one process only.
    ``calibration_us`` are the calibration times of the repetitions; None where the two sides have no common loop.
    """

    values_us: Sequence[float]
    calibration_us: Sequence[float] | None = None
    rounds: int = 1


@dataclass(frozen=True, slots=True)
class Change:
    """The new time is ``ratio`` times the old one, between ``low`` and ``high``, which are None without an interval.

    ``noise`` is the machine's, as a ratio above 1. ``old_us`` and ``new_us`` are the medians of the compared times,
    ``normalised`` where the repetitions allow it. ``more_rounds`` is how many further rounds would probably settle an
    inconclusive comparison, None where no number would. ``why`` is the reason why a comparison is inconclusive.
    """

    verdict: Verdict
    ratio: float
    low: float | None
    high: float | None
    noise: float
    old_us: float
    new_us: float
    normalised: bool = False
    more_rounds: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class _LogRatio:
    """The logarithm of a ratio new / old, with its interval; ``noise`` is the larger one of both sides."""

    estimate: float
    low: float | None
    high: float | None
    noise: float

    @property
    def direction(self) -> int:
        """1 where the new side is significantly larger, -1 where it is smaller, 0 where neither is significant."""
        if self.low is None or self.high is None:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


_UNCHANGED = _LogRatio(0.0, None, None, 0.0)  # the calibration of a machine of which nothing is known


def change(
    old: Side, new: Side, *, min_effect: float = 0.03, noise: float | None = None, comparisons: int = 1
) -> Change:
    """Compare ``new`` with ``old``.

    ``min_effect`` is the smallest relative change that matters. ``noise`` is the machine's, relative. If it is None, it
    is the A/A comparison of the repetitions of each side with each other: the largest one, or, of normalised times, the
    comparison of earlier with later ones. ``comparisons`` that are made together share the false alarms (Bonferroni).
    """
    confidence = 1 - FALSE_ALARMS / comparisons
    times = _logs(old.values_us), _logs(new.values_us)
    machine, normalised = _UNCHANGED, None
    if old.calibration_us is not None and new.calibration_us is not None:
        calibration = _logs(old.calibration_us), _logs(new.calibration_us)
        normalised = normalised_times(
            (times[0], calibration[0]), (times[1], calibration[1]), _min_repetitions(confidence)
        )
        if normalised is None:
            machine = _log_ratio(*calibration, confidence, noise)
        else:
            times, noise = normalised, max(map(_drift, normalised)) if noise is None else noise
    call = _log_ratio(*times, confidence, noise)
    threshold = log1p(min_effect)
    verdict = _verdict(call, machine, threshold)
    more, why = (None, "")
    if verdict == "inconclusive":
        repetitions = min(map(len, times))
        more, why = _why_inconclusive(call, machine, threshold, repetitions, confidence)
    return Change(
        verdict=verdict,
        ratio=exp(call.estimate),
        low=None if call.low is None else exp(call.low),
        high=None if call.high is None else exp(call.high),
        noise=exp(call.noise),
        old_us=exp(float(np.median(times[0]))),
        new_us=exp(float(np.median(times[1]))),
        normalised=normalised is not None,
        more_rounds=None if more is None else more * max(old.rounds, new.rounds),
        why=why,
    )


def _log_ratio(old: Floats, new: Floats, confidence: float, noise: float | None) -> _LogRatio:
    """The Hodges-Lehmann estimate of the shift, and the interval that inverts the rank sum test.

    The estimate is the median of all differences between a value of one side and one of the other. The interval's
    bounds are differences too (Hollander, Wolfe and Chicken, *Nonparametric Statistical Methods*, 4.2 and 4.3).
    """
    differences = np.sort((new[:, None] - old[None, :]).ravel())
    rank = rank_sum(len(old), len(new), confidence)
    return _LogRatio(
        estimate=float(np.median(differences)),
        low=None if rank is None else float(differences[rank]),
        high=None if rank is None else float(differences[len(differences) - 1 - rank]),
        noise=max(_noise(old), _noise(new)) if noise is None else log1p(noise),
    )


def _verdict(call: _LogRatio, machine: _LogRatio, threshold: float) -> Verdict:
    if call.low is None or call.high is None or _machine_changed(call, machine, threshold):
        return "inconclusive"
    if call.direction and abs(call.estimate) > max(threshold, call.noise):
        return "slower" if call.direction > 0 else "faster"
    if -threshold < call.low and call.high < threshold:
        return "no change"
    return "inconclusive"


def _machine_changed(call: _LogRatio, machine: _LogRatio, threshold: float) -> bool:
    """True where the machine changed so much that it may be the cause of the call's change.

    Also where it may hide a change of the call: the call stayed as it was on a machine that did not.
    """
    direction = _direction(call.estimate, threshold)
    if not direction:
        return bool(machine.direction) and abs(machine.estimate) > threshold
    return direction * machine.estimate >= _MACHINE_SHARE * abs(call.estimate)


def _why_inconclusive(
    call: _LogRatio, machine: _LogRatio, threshold: float, repetitions: int, confidence: float
) -> tuple[int | None, str]:
    """How many further repetitions would settle it if all else stayed the same, and why it is not settled now."""
    if _machine_changed(call, machine, threshold):
        return None, f"the machine's own speed changed by {_percent(abs(machine.estimate))}"
    if _direction(call.estimate, threshold) and abs(call.estimate) <= call.noise:
        return None, f"the machine's own noise is {_percent(call.noise)}"
    needed = _needed_repetitions(call, threshold, repetitions, confidence)
    if needed > _MAX_FACTOR * repetitions:
        return None, "the times vary too much"
    return max(1, needed - repetitions), "the interval is too wide"


def _direction(estimate: float, threshold: float) -> int:
    """The verdict of the estimate alone: slower (1), faster (-1) or no change (0)."""
    return 0 if abs(estimate) <= threshold else 1 if estimate > 0 else -1


def _needed_repetitions(call: _LogRatio, threshold: float, repetitions: int, confidence: float) -> int:
    """The repetitions that make the interval narrow enough: its width falls with the square root of their number."""
    if call.low is None or call.high is None:
        return _min_repetitions(confidence)
    below, above = call.estimate - call.low, call.high - call.estimate
    match _direction(call.estimate, threshold):
        case 1:
            factor = below / call.estimate
        case -1:
            factor = above / -call.estimate
        case _:
            tiny = 1e-9  # an estimate right at the threshold will never be told from it
            factor = max(above / max(threshold - call.estimate, tiny), below / max(threshold + call.estimate, tiny))
    return ceil(min(repetitions * factor**2, 1e9))


def _min_repetitions(confidence: float) -> int:
    """The smallest number of repetitions on each side for which there is an interval."""
    return next(count for count in range(2, 100) if 2 / comb(2 * count, count) <= 1 - confidence)


def _logs(values: Sequence[float]) -> Floats:
    return np.log(np.asarray(values, dtype=np.float64))


def _noise(logs: Floats) -> float:
    return log1p(largest_split(np.exp(logs - logs[0]))) if len(logs) > 1 else 0.0


def _drift(logs: Floats) -> float:
    """The A/A comparison of normalised times, relative: earlier with later ones, and every second one."""
    half = len(logs) // 2
    splits = ((logs[:half], logs[half:]), (logs[::2], logs[1::2]))
    return float(expm1(max(abs(np.median(second[:, None] - first[None, :])) for first, second in splits)))


def _percent(log: float) -> str:
    return f"{100 * (exp(log) - 1):.1f} %"


@cache
def rank_sum(old: int, new: int, confidence: float) -> int | None:
    """The index, from either end of the sorted differences, of the interval's bounds; None where there is no interval.

    It is the critical value of the Mann-Whitney statistic. The number of ways to deal ``old + new`` ranks to the sides
    that give each value of the statistic is the coefficient of a Gaussian binomial.
    """
    allowed = (1 - confidence) / 2
    if old * new > _EXACT:
        mean, deviation = old * new / 2, sqrt(old * new * (old + new + 1) / 12)
        index = int(mean + NormalDist().inv_cdf(allowed) * deviation - 0.5)
        return index if index >= 0 else None
    tail, rank, total = 0, None, comb(old + new, old)
    for index, ways in enumerate(_gaussian_binomial(old, new)):
        tail += ways
        if tail > allowed * total:
            break
        rank = index
    return rank


def _gaussian_binomial(old: int, new: int) -> list[int]:
    """The number of arrangements of ``old`` values among ``new`` others, by the Mann-Whitney statistic from 0 on."""
    size = old * new + 1
    ways = [1] + [0] * (size - 1)
    for step in range(1, old + 1):
        for index in range(size - 1, new + step - 1, -1):  # times 1 - q^(new + step)
            ways[index] -= ways[index - new - step]
        for index in range(step, size):  # divided by 1 - q^step
            ways[index] += ways[index - step]
    return ways
