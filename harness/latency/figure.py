"""A call's latency as a report holds it, with the reasons for low confidence in it.

:func:`smoke_timing` is what every passing check gets: a few milliseconds for a small layer, with its limits stated.
:func:`latency` computes the same figures from the samples of one process or of several.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from math import exp, log
from statistics import median
from typing import Any

from harness.latency.conditions import (
    MIN_ROUNDS,
    MIN_ROUNDS_ALONE,
    MachineState,
    Samples,
    calibration_loop,
    counted_rounds,
    read_machine,
)
from harness.latency.sampling import Call, Measurement, SamplingLimits, Series, Timer, measure, wall_timer
from harness.latency.statistics import Ratio, Summary, largest_split, paired_ratio, summarise, summarise_groups

EAGER = "eager"
"""The name under which :func:`latency` looks for eager torch among a measurement's series."""

_CALL = "call"
_TIMER = wall_timer()  # its resolution is measured once in a process


@dataclass(frozen=True, slots=True)
class Latency:
    """One call's latency in microseconds, and its ratio to eager torch where eager was sampled in the same rounds.

    ``low_us`` and ``high_us`` enclose the median with 95% confidence, ``ratio_low`` and ``ratio_high`` the ratio. With
    several ``processes`` the median is that of the processes' medians, and the intervals are theirs: processes differ
    by more than the calls in one of them. ``samples`` are means of ``batch`` calls each. ``undisturbed`` of them were
    undisturbed; only these count, as long as there are enough of them (:mod:`harness.latency.conditions`). ``p90_us``
    and ``p99_us`` are None where samples are too few, and ``p99_us`` also where samples are means of several calls.

    ``noise`` is the A/A comparison: by how much the slow half of the processes is above the fast half, which ran the
    same code (0.02 is 2%). ``low_confidence`` is True if the latency is too noisy to quote, and ``notes`` say why.

    ``samples_us`` and ``eager_samples_us`` are all raw samples, a list for each process. ``interrupted`` and
    ``calibration_us`` are those of :class:`harness.latency.conditions.Samples` for ``samples_us``.
    """

    median_us: float
    low_us: float | None
    high_us: float | None
    iqr_us: float
    p90_us: float | None
    p99_us: float | None
    samples: int
    undisturbed: int
    processes: int
    batch: int
    warmup_calls: int
    first_call_us: float
    eager_us: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    noise: float | None
    low_confidence: bool
    notes: tuple[str, ...]
    samples_us: tuple[tuple[float, ...], ...]
    interrupted: tuple[tuple[int, ...], ...]
    calibration_us: tuple[tuple[float, ...], ...]
    eager_samples_us: tuple[tuple[float, ...], ...] | None

    def to_dict(self) -> dict[str, Any]:
        """Return the latency as ``report.json`` holds it, with four significant digits; a measurement has no more."""
        fields: dict[str, Any] = rounded(asdict(self))
        return fields


def smoke_timing(
    call: Call,
    baseline: Call | None = None,
    budget_s: float = 0.01,
    *,
    timer: Timer | None = None,
    machine: Callable[[], MachineState] = read_machine,
    calibration: Call | None = None,
) -> Latency:
    """Sample ``call`` in turns with ``baseline``, which is eager torch on the same inputs.

    About ``budget_s`` is spent; more where a single call is long, and then no more than ten times as much plus the last
    round. ``calibration`` replaces :func:`harness.latency.conditions.calibration_loop`. The order within a round is
    drawn from a fixed seed.
    """
    calls = {_CALL: call} if baseline is None else {_CALL: call, EAGER: baseline}
    limits = SamplingLimits(
        budget_s=0.7 * budget_s, min_rounds=10, max_rounds=40, warmup_s=0.1 * budget_s, max_s=10 * budget_s
    )
    rng = random.Random(0)  # noqa: S311 - an order, no secret
    measurement = measure(calls, limits, rng, timer or _TIMER, machine, calibration or _calibration_loop())
    return latency(_CALL, [measurement])


@cache
def _calibration_loop() -> Call:
    return calibration_loop()


def latency(name: str, processes: Sequence[Measurement]) -> Latency:
    """Compute the latency of the call ``name`` from the measurement of each process."""
    series = [measurement.series[name] for measurement in processes]
    samples = [one.samples for one in series]
    eager = [process.series[EAGER].samples for process in processes if EAGER in process.series]
    ratio = _ratio(samples, eager) if eager and name != EAGER else None
    counted = counted_rounds(samples)
    groups = _counted_samples(samples, counted)
    batch = max(one.batch for one in series)
    summary = summarise(groups[0]) if len(groups) == 1 else summarise_groups(groups)
    undisturbed = sum(map(len, counted)) if any(counted) else 0
    notes = list(latency_notes(summary, series, processes, undisturbed))
    return Latency(
        median_us=summary.median,
        low_us=summary.low,
        high_us=summary.high,
        iqr_us=summary.iqr,
        p90_us=summary.p90,
        p99_us=summary.p99 if batch == 1 else None,
        samples=sum(len(one.samples_us) for one in samples),
        undisturbed=undisturbed,
        processes=len(samples),
        batch=batch,
        warmup_calls=min(one.warmup_calls for one in series),
        first_call_us=median(one.first_us for one in series),
        eager_us=median(median(group) for group in _counted_samples(eager, counted_rounds(eager))) if eager else None,
        ratio=None if ratio is None else ratio.value,
        ratio_low=None if ratio is None else ratio.low,
        ratio_high=None if ratio is None else ratio.high,
        noise=largest_split([median(group) for group in groups]) if len(groups) > 1 else None,
        low_confidence=any(note.low_confidence for note in notes),
        notes=tuple(dict.fromkeys(note.text for note in notes)),
        samples_us=tuple(tuple(one.samples_us) for one in samples),
        interrupted=tuple(tuple(sorted(one.interrupted)) for one in samples),
        calibration_us=tuple(tuple(one.calibration_us) for one in samples),
        eager_samples_us=tuple(tuple(one.samples_us) for one in eager) if eager else None,
    )


def _counted_samples(processes: Sequence[Samples], counted: Sequence[Sequence[int]]) -> list[list[float]]:
    """The counted samples of each process that has any; all samples where no process has."""
    if not any(counted):
        return [list(one.samples_us) for one in processes]
    return [[one.samples_us[at] for at in rounds] for one, rounds in zip(processes, counted, strict=True) if rounds]


def _ratio(samples: Sequence[Samples], eager: Sequence[Samples]) -> Ratio:
    """The ratio to eager: over the rounds of a single process, or over the ratios of several processes."""
    sides = zip(samples, eager, counted_rounds(samples), counted_rounds(eager), strict=True)
    pairs = [_pairs(call, other, sorted({*rounds} & {*eager_rounds})) for call, other, rounds, eager_rounds in sides]
    all_pairs = [_pairs(call, other, range(len(call.samples_us))) for call, other in zip(samples, eager, strict=True)]
    kept = [pair for pair in pairs if len(pair[0]) >= MIN_ROUNDS] or all_pairs
    if len(samples) == 1:
        return paired_ratio(*(kept[0] if len(kept[0][0]) >= MIN_ROUNDS_ALONE else all_pairs[0]))
    kept = kept if 2 * len(kept) > len(samples) else all_pairs
    ratios = [exp(median(log(a) - log(b) for a, b in zip(*pair, strict=True))) for pair in kept]
    return paired_ratio(ratios, [1.0] * len(ratios))


def _pairs(call: Samples, other: Samples, rounds: Sequence[int]) -> tuple[list[float], list[float]]:
    return [call.samples_us[at] for at in rounds], [other.samples_us[at] for at in rounds]


def rounded(value: Any) -> Any:
    """``value`` with four significant digits in every float in it, and with lists for tuples."""
    match value:
        case float():
            return float(f"{value:.4g}")
        case Mapping():
            return {key: rounded(item) for key, item in value.items()}
        case tuple():
            return [rounded(item) for item in value]
    return value


# Notes, and low confidence

_MIN_RESOLUTIONS = 20  # clock resolutions that a batch must last at least
_WIDE_INTERVAL = 0.10  # of the median, either way
_WIDE_SPREAD = 0.25  # of the median, between the quartiles
_LOOP_OVERHEAD = 0.02  # of the median
_MOSTLY_UNDISTURBED = 0.75  # of the samples
_STOLEN_TIME = 0.02  # of the time
_FREQUENCY_CHANGE = 0.10  # of the frequency


@dataclass(frozen=True, slots=True)
class LatencyNote:
    """One thing to know about a latency; with ``low_confidence`` it is too noisy to quote."""

    text: str
    low_confidence: bool = False


def latency_notes(
    summary: Summary, series: Sequence[Series], processes: Sequence[Measurement], undisturbed: int
) -> Iterator[LatencyNote]:
    """Yield every note about one call's ``series``, one for each of ``processes``.

    ``summary`` is of all series, and ``undisturbed`` the number of their samples that were undisturbed and count.
    """
    batch = min(one.batch for one in series)
    resolution = max(process.resolution_ns for process in processes)
    sample_ns = summary.median * batch * 1e3
    if sample_ns < _MIN_RESOLUTIONS * resolution:
        text = f"a sample lasts {sample_ns:.0f} ns, and the clock's resolution is {resolution} ns"
        yield LatencyNote(text, low_confidence=True)
    if summary.low is None or summary.high is None:
        number, unit = (summary.count, "samples") if len(processes) == 1 else (len(processes), "processes")
        yield LatencyNote(f"{number} {unit} are too few for an interval", low_confidence=True)
    elif max(summary.high - summary.median, summary.median - summary.low) > _WIDE_INTERVAL * summary.median:
        text = f"the interval of the median is wide: {summary.low:.3g} to {summary.high:.3g} us"
        yield LatencyNote(text, low_confidence=True)
    if summary.iqr > _WIDE_SPREAD * summary.median:
        yield LatencyNote(
            f"the middle half of the samples spans {100 * summary.iqr / summary.median:.0f} % of the median"
        )
    loop = min(process.loop_ns for process in processes)
    if batch > 1 and loop > _LOOP_OVERHEAD * summary.median * 1e3:
        yield LatencyNote(f"{loop:.0f} ns of each call are loop overhead")
    count = sum(len(one.samples.samples_us) for one in series)
    if undisturbed == 0:
        text = f"too few of {count} samples were undisturbed by other work on the machine, so all of them count"
        yield LatencyNote(text, low_confidence=True)
    elif undisturbed < _MOSTLY_UNDISTURBED * count:
        disturbed = count - undisturbed
        yield LatencyNote(
            f"{disturbed} of {count} samples were disturbed by other work on the machine and do not count"
        )
    yield from _machine_notes(processes)


def _machine_notes(processes: Sequence[Measurement]) -> Iterator[LatencyNote]:
    load, cpus = max(_not_none(process.after.load for process in processes), default=0.0), processes[-1].after.cpus
    if cpus and load > cpus + 0.5:
        yield LatencyNote(f"the machine is busy: load {load:.1f} on {cpus} CPUs")
    if any(_increase(process.before.throttled, process.after.throttled) for process in processes):
        yield LatencyNote("the CPU was throttled for heat", low_confidence=True)
    stolen = sum(_increase(process.before.stolen_s, process.after.stolen_s) for process in processes)
    share = stolen / max(sum(process.seconds for process in processes) * (os.cpu_count() or 1), 1e-9)
    if share > _STOLEN_TIME:
        yield LatencyNote(f"the hypervisor gave {100 * share:.0f} % of the time to other machines")
    mhz = list(_not_none(state.mhz for process in processes for state in (process.before, process.after)))
    if mhz and max(mhz) > (1 + _FREQUENCY_CHANGE) * min(mhz):
        yield LatencyNote(f"the CPU frequency varied between {min(mhz):.0f} and {max(mhz):.0f} MHz")


def _not_none(values: Iterable[float | None]) -> Iterator[float]:
    return (value for value in values if value is not None)


def _increase(before: float | None, after: float | None) -> float:
    return 0.0 if before is None or after is None else max(0.0, after - before)
