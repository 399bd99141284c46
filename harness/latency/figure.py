"""From the samples of one process, or of several, to the latency that a report holds, with its doubts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, log
from statistics import median
from typing import Any

from harness.latency.calm import ENOUGH, FEW, Samples, counting
from harness.latency.noise import doubts
from harness.latency.ratio import Ratio, paired_ratio
from harness.latency.sampling import Measurement
from harness.latency.statistics import largest_split, summarise, summarise_groups

EAGER = "eager"
"""The name under which :func:`latency` finds eager torch among a measurement's series."""


@dataclass(frozen=True, slots=True)
class Latency:
    """One call's latency in microseconds, and its ratio to eager torch where eager was sampled beside it.

    ``low_us`` and ``high_us`` enclose the median with 95% confidence, ``ratio_low`` and ``ratio_high`` the ratio. With
    ``low_us`` and ``high_us`` enclose the median with 95% confidence, ``ratio_low`` and ``ratio_high`` the ratio. With
    several ``processes`` the median is that of the processes' medians, and the intervals are theirs: processes differ
    by more than the calls in one of them. ``samples`` are means of ``batch`` calls each, of which the ``calm`` ones
    count, as long as there are enough of them (:mod:`harness.latency.calm`). ``p90_us`` and ``p99_us`` are None where
    samples are too few, and ``p99_us`` also where samples are means of several calls.

    ``noise`` is the A/A comparison: by how much the slow half of the processes is above the quick half, which ran the
    same (0.02 is 2%). ``quotable`` is False where one of ``notes`` makes the figure no more than a hint.

    ``samples_us`` and ``eager_samples_us`` are all raw samples, a list for each process, and ``interrupted`` and
    ``pace_us`` what :class:`harness.latency.calm.Samples` says of those in ``samples_us``.
    """

    median_us: float
    low_us: float | None
    high_us: float | None
    iqr_us: float
    p90_us: float | None
    p99_us: float | None
    samples: int
    calm: int
    processes: int
    batch: int
    warmup_calls: int
    first_call_us: float
    eager_us: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    noise: float | None
    quotable: bool
    notes: tuple[str, ...]
    samples_us: tuple[tuple[float, ...], ...]
    interrupted: tuple[tuple[int, ...], ...]
    pace_us: tuple[tuple[float, ...], ...]
    eager_samples_us: tuple[tuple[float, ...], ...] | None

    def to_dict(self) -> dict[str, Any]:
        """As ``report.json`` holds it, with four significant digits; a measurement has no more."""
        told: dict[str, Any] = _rounded(asdict(self))
        return told


def latency(name: str, processes: Sequence[Measurement]) -> Latency:
    """The latency of the call ``name`` from what each process measured."""
    series = [measurement.series[name] for measurement in processes]
    own = [one.samples for one in series]
    eager = [process.series[EAGER].samples for process in processes if EAGER in process.series]
    ratio = _ratio(own, eager) if eager and name != EAGER else None
    counted = counting(own)
    groups = _values(own, counted)
    batch = max(one.batch for one in series)
    summary = summarise(groups[0]) if len(groups) == 1 else summarise_groups(groups)
    calm_ones = sum(map(len, counted)) if any(counted) else 0
    found = list(doubts(summary, series, processes, calm_ones))
    return Latency(
        median_us=summary.median,
        low_us=summary.low,
        high_us=summary.high,
        iqr_us=summary.iqr,
        p90_us=summary.p90,
        p99_us=summary.p99 if batch == 1 else None,
        samples=sum(len(one.samples_us) for one in own),
        calm=calm_ones,
        processes=len(own),
        batch=batch,
        warmup_calls=min(one.warmup_calls for one in series),
        first_call_us=median(one.first_us for one in series),
        eager_us=median(median(group) for group in _values(eager, counting(eager))) if eager else None,
        ratio=None if ratio is None else ratio.value,
        ratio_low=None if ratio is None else ratio.low,
        ratio_high=None if ratio is None else ratio.high,
        noise=largest_split([median(group) for group in groups]) if len(groups) > 1 else None,
        quotable=not any(doubt.grave for doubt in found),
        notes=tuple(dict.fromkeys(doubt.text for doubt in found)),
        samples_us=tuple(tuple(one.samples_us) for one in own),
        interrupted=tuple(tuple(sorted(one.interrupted)) for one in own),
        pace_us=tuple(tuple(one.pace_us) for one in own),
        eager_samples_us=tuple(tuple(one.samples_us) for one in eager) if eager else None,
    )


def _values(processes: Sequence[Samples], counted: Sequence[Sequence[int]]) -> list[list[float]]:
    """The counted samples of each process that has any; all samples where no process has."""
    if not any(counted):
        return [list(one.samples_us) for one in processes]
    return [[one.samples_us[at] for at in rounds] for one, rounds in zip(processes, counted, strict=True) if rounds]


def _ratio(own: Sequence[Samples], eager: Sequence[Samples]) -> Ratio:
    """Over the rounds of one process, or over what several processes found each."""
    both = zip(own, eager, counting(own), counting(eager), strict=True)
    pairs = [_pairs(one, other, sorted({*calm} & {*eager_calm})) for one, other, calm, eager_calm in both]
    whole = [_pairs(one, other, range(len(one.samples_us))) for one, other in zip(own, eager, strict=True)]
    kept = [pair for pair in pairs if len(pair[0]) >= FEW] or whole
    if len(own) == 1:
        return paired_ratio(*(kept[0] if len(kept[0][0]) >= ENOUGH else whole[0]))
    kept = kept if 2 * len(kept) > len(own) else whole
    each = [exp(median(log(a) - log(b) for a, b in zip(*pair, strict=True))) for pair in kept]
    return paired_ratio(each, [1.0] * len(each))


def _pairs(one: Samples, other: Samples, rounds: Sequence[int]) -> tuple[list[float], list[float]]:
    return [one.samples_us[at] for at in rounds], [other.samples_us[at] for at in rounds]


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return float(f"{value:.4g}")
        case Mapping():
            return {key: _rounded(item) for key, item in value.items()}
        case tuple():
            return [_rounded(item) for item in value]
    return value
