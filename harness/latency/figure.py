"""From the samples of one process, or of several, to the latency that a report holds, with its doubts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, log
from statistics import median
from typing import Any

from harness.latency.noise import doubts
from harness.latency.ratio import Ratio, paired_ratio
from harness.latency.sampling import Measurement, Series
from harness.latency.statistics import largest_split, summarise, summarise_groups

EAGER, PACE = "eager", "pace"
"""The names under which :func:`latency` finds eager torch and the pace among a measurement's series."""


@dataclass(frozen=True, slots=True)
class Latency:
    """One call's latency in microseconds, and its ratio to eager torch where eager was sampled beside it.

    ``low_us`` and ``high_us`` enclose the median with 95% confidence, ``ratio_low`` and ``ratio_high`` the ratio. With
    several ``processes`` the median is that of the processes' medians, and the intervals are theirs: processes differ
    by more than the calls in one of them. ``samples`` are means of ``batch`` calls each; those in which another process
    was given the CPU are set aside, as long as enough are left. ``p90_us`` and ``p99_us`` are None where samples are
    too few, and ``p99_us`` also where samples are means of many calls.

    ``noise`` is the A/A comparison: by how much the slow half of the processes is above the quick half, which ran the
    same (0.02 is 2%). ``quotable`` is False where one of ``notes`` makes the figure no more than a hint.

    ``samples_us`` and ``eager_samples_us`` are the raw samples, a list for each process, ``interrupted`` the places in
    ``samples_us`` that were set aside, and ``pace_us`` each process's median of :func:`harness.latency.pace.pace`.
    """

    median_us: float
    low_us: float | None
    high_us: float | None
    iqr_us: float
    p90_us: float | None
    p99_us: float | None
    samples: int
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
    eager_samples_us: tuple[tuple[float, ...], ...] | None
    pace_us: tuple[float, ...] | None

    def to_dict(self) -> dict[str, Any]:
        """As ``report.json`` holds it, with four significant digits; a measurement has no more."""
        told: dict[str, Any] = _rounded(asdict(self))
        return told


def latency(name: str, processes: Sequence[Measurement]) -> Latency:
    """The latency of the call ``name`` from what each process measured."""
    own = [measurement.series[name] for measurement in processes]
    eager = _series(EAGER, processes)
    pace = _series(PACE, processes)
    ratio = None if eager is None or name == EAGER else _ratio(own, eager)
    groups = [series.undisturbed_us for series in own]
    batch = max(series.batch for series in own)
    summary = summarise(groups[0]) if len(groups) == 1 else summarise_groups(groups)
    found = list(doubts(summary, own, processes))
    return Latency(
        median_us=summary.median,
        low_us=summary.low,
        high_us=summary.high,
        iqr_us=summary.iqr,
        p90_us=summary.p90,
        p99_us=summary.p99 if batch == 1 else None,
        samples=sum(len(series.samples_us) for series in own),
        processes=len(own),
        batch=batch,
        warmup_calls=min(series.warmup_calls for series in own),
        first_call_us=median(series.first_us for series in own),
        eager_us=None if eager is None else median(median(series.undisturbed_us) for series in eager),
        ratio=None if ratio is None else ratio.value,
        ratio_low=None if ratio is None else ratio.low,
        ratio_high=None if ratio is None else ratio.high,
        noise=largest_split([median(group) for group in groups]) if len(groups) > 1 else None,
        quotable=not any(doubt.grave for doubt in found),
        notes=tuple(dict.fromkeys(doubt.text for doubt in found)),
        samples_us=tuple(series.samples_us for series in own),
        interrupted=tuple(tuple(sorted(series.interrupted)) for series in own),
        eager_samples_us=None if eager is None else tuple(series.samples_us for series in eager),
        pace_us=None if pace is None else tuple(median(series.undisturbed_us) for series in pace),
    )


def _series(name: str, processes: Sequence[Measurement]) -> list[Series] | None:
    """The series of that name of every process; None where it was not sampled."""
    found = [measurement.series[name] for measurement in processes if name in measurement.series]
    return found if len(found) == len(processes) else None


def _ratio(own: Sequence[Series], eager: Sequence[Series]) -> Ratio:
    """Over the rounds of one process, or over what several processes found each."""
    pairs = [_undisturbed_pairs(*pair) for pair in zip(own, eager, strict=True)]
    if len(pairs) == 1:
        return paired_ratio(*pairs[0])
    each = [exp(median(log(a) - log(b) for a, b in zip(*pair, strict=True))) for pair in pairs]
    return paired_ratio(each, [1.0] * len(each))


def _undisturbed_pairs(one: Series, other: Series) -> tuple[list[float], list[float]]:
    """The samples of the rounds in which neither call was interrupted; of all rounds where too few are left."""
    rounds = range(len(one.samples_us))
    calm = [at for at in rounds if at not in one.interrupted | other.interrupted]
    kept = calm if len(calm) >= max(6, len(rounds) // 4) else rounds
    return [one.samples_us[at] for at in kept], [other.samples_us[at] for at in kept]


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return float(f"{value:.4g}")
        case Mapping():
            return {key: _rounded(item) for key, item in value.items()}
        case tuple():
            return [_rounded(item) for item in value]
    return value
