"""What a lowered model lost, its outputs on all samples against the float32 model's, and how long it takes."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.decisions import count_decisions, percent, wilson_interval
from harness.compare.metrics.similarity import decibels
from harness.latency import SamplingLimits, latency
from harness.latency import measure as measure_calls
from harness.latency.conditions import calibration_loop
from harness.latency.sampling import Call, wall_timer
from harness.spec.language.tolerances import DecisionKind, Decisions

Array = NDArray[Any]
Answer = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class DecisionShare:
    """How many decisions of all samples agree. ``of`` leaves out the ``ties``.

    ``share`` is 1 if all are ties. ``low`` and ``high`` are its 95 % interval (Wilson); ``lowest`` is that of the worst
    sample.
    """

    agree: int
    of: int
    ties: int
    share: float
    low: float
    high: float
    lowest: float


@dataclass(frozen=True, slots=True)
class Measure:
    """How far the outputs are from float32.

    ``sqnr`` is the lowest signal-to-noise ratio of any output on any sample in dB, infinite for equal values and minus
    infinity where a finite value became NaN or an infinity, or the signal is zero. ``output`` and ``sample`` are where.
    ``mean_sqnr`` is that of the noise of all samples together, ``rms`` the RMS error, both of ``output``.
    ``nonfinite`` counts the values that became NaN or an infinity. ``decisions`` is None if no output decides.
    """

    sqnr: float
    mean_sqnr: float
    rms: float
    output: str
    sample: str
    nonfinite: int
    decisions: DecisionShare | None


class NothingComparable(ValueError):
    """No output has floating-point values, so there is no error to measure."""


def measure(
    references: Sequence[Answer],
    answers: Iterable[Answer],
    samples: Sequence[str],
    decisions: tuple[str, Decisions] | None,
    float64: Sequence[Answer] | None = None,
) -> Measure:
    """Compare the ``answers`` with the ``references``, one for each of the ``samples``.

    ``decisions`` names the output that decides. With ``float64`` answers, errors are measured against these, and
    decisions that are nearer to each other than the references' own error are ties. Raises :class:`NothingComparable`,
    and ``ValueError`` if an answer lacks an output, has another shape, or is missing.
    """
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    values: dict[str, int] = {}
    worst: dict[str, tuple[float, str]] = {}
    nonfinite = 0
    counts: list[tuple[int, int, int]] = []
    for index, (name, reference, answer) in enumerate(zip(samples, references, answers, strict=True)):
        exact = None if float64 is None else float64[index]
        for output, rounded in reference.items():
            expected = rounded if exact is None else exact[output]
            if rounded.dtype.kind not in "fV" or not rounded.size:
                continue
            power, error, lost = _powers(output, expected, answer)
            signal[output], noise[output] = signal.get(output, 0.0) + power, noise.get(output, 0.0) + error
            values[output] = values.get(output, 0) + expected.size
            nonfinite += lost
            worst[output] = min(worst.get(output, (math.inf, name)), (decibels(power, error), name))
        if decisions is not None and decisions[0] in reference:
            counts.append(_count(decisions, reference, answer, exact))
    if not worst:
        raise NothingComparable("no output has floating-point values")
    output = min(worst, key=lambda each: worst[each][0])
    return Measure(
        sqnr=worst[output][0],
        mean_sqnr=decibels(signal[output], noise[output]),
        rms=math.sqrt(noise[output] / values[output]),
        output=output,
        sample=worst[output][1],
        nonfinite=nonfinite,
        decisions=_share(counts) if counts else None,
    )


def _powers(output: str, expected: Array, answer: Answer) -> tuple[float, float, int]:
    """The sum of squares of the values, that of the errors, and the number of values that became NaN or infinite."""
    if output not in answer or answer[output].shape != expected.shape:
        actual = list(answer[output].shape) if output in answer else "missing"
        raise ValueError(f"{output} is {actual}; expected {list(expected.shape)}")
    before, after = expected.astype(np.float64), answer[output].astype(np.float64)
    finite = np.isfinite(before)
    lost = int(np.count_nonzero(finite & ~np.isfinite(after)))
    with np.errstate(all="ignore"):
        error = math.inf if lost else float(np.square((after - before)[finite]).sum())
    return float(np.square(before[finite]).sum()), error, lost


def _count(
    decisions: tuple[str, Decisions], reference: Answer, answer: Answer, exact: Answer | None
) -> tuple[int, int, int]:
    name, rule = decisions
    counted = count_decisions(rule, answer[name], reference[name], None if exact is None else exact[name])
    return (0, 0, 0) if isinstance(counted, str) else (counted.agree, counted.counted, counted.ties)


def _share(counts: Sequence[tuple[int, int, int]]) -> DecisionShare:
    agree, of, ties = (sum(each[at] for each in counts) for at in range(3))
    low, high = wilson_interval(agree, of)
    share = agree / of if of else 1.0
    return DecisionShare(agree, of, ties, share, low, high, min((a / n for a, n, _ in counts if n), default=1.0))


@dataclass(frozen=True, slots=True)
class Decided:
    """The output that decides, and how: ``argmax`` over ``candidates`` along ``axis``, or its ``sign``."""

    output: str
    by: DecisionKind
    axis: int
    candidates: int

    def __str__(self) -> str:
        along = f" over {self.candidates:,} candidates along axis {self.axis}" if self.by == "argmax" else ""
        return f"{self.by} of {self.output}{along}"


def decided(decisions: tuple[str, Decisions] | None, answer: Mapping[str, Any]) -> Decided | None:
    """What the ``decisions`` of a model are, with the number of candidates in its ``answer``."""
    if decisions is None:
        return None
    output, rule = decisions
    return Decided(output, rule.by, rule.axis, answer[output].shape[rule.axis])


# In words


def decibel(ratio: float) -> str:
    """``34.2 dB``, ``equal`` or ``destroyed``: a finite value became NaN or an infinity."""
    if math.isfinite(ratio):
        return f"{ratio:.1f} dB"
    return "equal" if ratio > 0 else "destroyed"


def share_text(measured: Measure) -> str:
    """``99.8 % (499 of 500, 98.9 to 100)``, with ties; empty if nothing decides."""
    decisions = measured.decisions
    if decisions is None:
        return ""
    ties = f", {decisions.ties} ties" if decisions.ties else ""
    interval = f"{100 * decisions.low:.3g} to {100 * decisions.high:.3g}"
    return f"{percent(decisions.share)} ({decisions.agree:,} of {decisions.of:,}, {interval}{ties})"


def megabytes(size: int | None) -> str:
    """The size in MB, or in KB if it is small."""
    if size is None:
        return ""
    return f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.1f} KB"


TIMING = SamplingLimits(budget_s=4.0, min_rounds=10, max_rounds=40, warmup_s=0.2, max_s=20.0)


@dataclass(frozen=True, slots=True)
class Timing:
    """The latency of one choice in microseconds with its 95 % interval; None in ``median_us`` where it does not run."""

    median_us: float | None
    low_us: float | None = None
    high_us: float | None = None
    low_confidence: bool = False


def timed(calls: Mapping[str, Call]) -> dict[str, Timing]:
    """The latency of each call, sampled in turns."""
    rng = random.Random(0)  # noqa: S311 - an order, no secret
    measurement = measure_calls(calls, TIMING, rng, wall_timer(), calibration=calibration_loop())
    figures = {name: latency(name, [measurement]) for name in calls}
    return {
        name: Timing(each.median_us, each.low_us, each.high_us, each.low_confidence) for name, each in figures.items()
    }


def latency_text(timing: Timing) -> str:
    """``1.23 ms (1.2 to 1.3)``, with a remark where it is too noisy to quote."""
    if timing.median_us is None:
        return "does not run"
    interval = (
        ""
        if timing.low_us is None or timing.high_us is None
        else f" ({timing.low_us / 1e3:.3g} to {timing.high_us / 1e3:.3g})"
    )
    return f"{timing.median_us / 1e3:.3g} ms{interval}{', low confidence' if timing.low_confidence else ''}"
