"""Has a call become slower? The rule by which two measurements are held against each other.

A change counts only if it is significant, above the noise of the machine that measured it, and at least as large as
what was said to matter. And it is no change of the call where the machine's own pace (:mod:`harness.latency.pace`)
changed in the same direction, by half as much or more: then the machine has changed.

    the interval  | the estimate                             | the machine's pace           | verdict
    --------------|------------------------------------------|------------------------------|-------------
    lies above 1  | above what matters and above the noise   | did not slow down, by half   | slower
    lies below 1  | as far below                             | did not speed up, by half    | faster
    lies within what matters                                 | did not move by what matters | no change
    all else                                                                                | inconclusive

What disturbs a machine only ever adds, now to more repetitions and now to fewer, so what tells is on the quick side: the
estimate is the shift of the lower quartile, and it is significant where many of the one side precede even the quickest
of the other. That is the precedence test, which asks nothing of the distributions (Nelson, *Tables for a Precedence
Life Test*, Technometrics 5, 1963; Balakrishnan and Ng, *Precedence-Type Tests and Applications*, 2006); the interval
holds all shifts that it would not reject.

The pace is a witness and no unit: what slows a machine down slows arithmetic in the first cache, which the pace is, by
more than most models, so that figures divided by it would spread more widely than the figures themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import ceil, comb, exp, log1p
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["slower", "faster", "no change", "inconclusive"]
Floats = NDArray[np.float64]

FALSE_ALARMS = 0.01
"""So often may a comparison of equals call itself a change, over all comparisons that are made together."""

# What is held against each other is the value that so many of the repetitions are quicker than.
_UNDISTURBED = 0.25
# One in so many values of a side, or the first, counts as its quickest; those before it are strokes of luck.
_FEW_OF = 20
# A machine whose pace changed by this share of what the call did may have done it.
_WITNESS = 0.5
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

    @property
    def undisturbed_us(self) -> float:
        """What a repetition takes that little disturbs: one in four is quicker."""
        return float(np.quantile(self.values_us, _UNDISTURBED))


@dataclass(frozen=True, slots=True)
class Change:
    """``ratio`` times as long as before, between ``low`` and ``high``, which are None where nothing can be told.

    ``noise`` is the machine's own, as a ratio above 1, and ``more_rounds`` how many further rounds would probably
    settle an inconclusive comparison; None where no number would. ``why`` is told where the verdict is inconclusive.
    """

    verdict: Verdict
    ratio: float
    low: float | None
    high: float | None
    noise: float
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
    is the A/A comparison of the repetitions of each side with each other. ``comparisons`` that are made together share
    the false alarms (Bonferroni).
    """
    confidence = 1 - FALSE_ALARMS / comparisons
    call, pace = _view(_logs(old.values_us), _logs(new.values_us), confidence, noise), _STEADY
    if old.pace_us is not None and new.pace_us is not None:
        pace = _view(_logs(old.pace_us), _logs(new.pace_us), confidence, noise)
    matters = log1p(min_effect)
    verdict = _verdict(call, pace, matters)
    more, why = (None, "")
    if verdict == "inconclusive":
        repetitions = min(len(old.values_us), len(new.values_us))
        more, why = _what_would_settle(call, pace, matters, repetitions, confidence)
    return Change(
        verdict=verdict,
        ratio=exp(call.estimate),
        low=None if call.low is None else exp(call.low),
        high=None if call.high is None else exp(call.high),
        noise=exp(call.noise),
        more_rounds=None if more is None else more * max(old.rounds, new.rounds),
        why=why,
    )


def _view(old: Floats, new: Floats, confidence: float, noise: float | None) -> _View:
    """The shift of what is undisturbed, and the interval that inverts the precedence test."""
    return _View(
        estimate=_undisturbed(new) - _undisturbed(old),
        low=_surely_above(old, new, confidence),
        high=_negative(_surely_above(new, old, confidence)),
        noise=max(_noise(old), _noise(new)) if noise is None else log1p(noise),
    )


def _surely_above(old: Floats, new: Floats, confidence: float) -> float | None:
    """So far, at least, the values of ``new`` lie above those of ``old``; None where no bound keeps the confidence."""
    quick = ceil(len(new) / _FEW_OF)
    place = precedence(len(old), len(new), quick, confidence)
    return None if place is None else float(np.sort(new)[quick - 1] - np.sort(old)[place - 1])


def _negative(bound: float | None) -> float | None:
    return None if bound is None else -bound


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


def _undisturbed(values: Floats) -> float:
    return float(np.quantile(values, _UNDISTURBED))


def _noise(logs: Floats) -> float:
    """The A/A comparison: repetitions held against others of the same side, the earlier ones and every second one."""
    if len(logs) < 2:
        return 0.0
    half = len(logs) // 2
    splits = ((logs[:half], logs[half:]), (logs[::2], logs[1::2]))
    return max(abs(_undisturbed(one) - _undisturbed(other)) for one, other in splits)


def _percent(log: float) -> str:
    return f"{100 * (exp(log) - 1):.1f}%"


@cache
def precedence(old: int, new: int, quick: int, confidence: float) -> int | None:
    """The least place in sorted ``old`` values that, among equals, hardly ever precedes the ``quick``-th new one.

    That ``place`` old values precede it says that of the first ``place + quick - 1`` values of both sides less than
    ``quick`` are new ones, which is hypergeometric whatever the distribution. None where no place keeps the confidence.
    """
    allowed = Fraction((1 - confidence) / 2)
    for place in range(1, old + 1):
        first = place + quick - 1
        ways = sum(comb(new, of_new) * comb(old, first - of_new) for of_new in range(quick))
        if ways <= allowed * comb(old + new, first):
            return place
    return None
