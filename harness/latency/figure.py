"""What makes a figure doubtful, in words, and whether it is worth quoting.

From the samples of one process, or of several, to the latency that a report holds, with its doubts.

The figure that every passing check gets: a few milliseconds for a small layer, and honest about its limits.
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

from harness.latency.conditions import ENOUGH, FEW, MachineState, Samples, counting, pace, read_machine
from harness.latency.sampling import Call, Effort, Measurement, Series, Timer, measure, wall_timer
from harness.latency.statistics import Ratio, Summary, largest_split, paired_ratio, summarise, summarise_groups

_NEAR_THE_CLOCK = 20  # resolutions that a batch must last at least
_WIDE = 0.10  # of the median, either way
_SPREAD = 0.25  # of the median, between the quartiles
_LOOP = 0.02  # of the median
_ENOUGH_CALM = 0.75  # of the samples
_STOLEN = 0.02  # of the time
_FREQUENCY = 0.10  # of the frequency


@dataclass(frozen=True, slots=True)
class Doubt:
    """One reason for caution; where it is ``grave``, the figure is not worth quoting."""

    text: str
    grave: bool = False


def doubts(summary: Summary, series: Sequence[Series], processes: Sequence[Measurement], calm: int) -> Iterator[Doubt]:
    """Every reason that one call's ``series`` give, one for each of ``processes``.

    ``summary`` is of them all, and ``calm`` how many of their samples were taken in calm and count.
    """
    batch = min(one.batch for one in series)
    resolution = max(process.resolution_ns for process in processes)
    lasted = summary.median * batch * 1e3
    if lasted < _NEAR_THE_CLOCK * resolution:
        yield Doubt(f"a sample lasts {lasted:.0f} ns on a clock of {resolution} ns", grave=True)
    if summary.low is None or summary.high is None:
        number, what = (summary.count, "samples") if len(processes) == 1 else (len(processes), "processes")
        yield Doubt(f"{number} {what} are too few for an interval", grave=True)
    elif max(summary.high - summary.median, summary.median - summary.low) > _WIDE * summary.median:
        yield Doubt(f"the median is known to lie between {summary.low:.3g} and {summary.high:.3g} us only", grave=True)
    if summary.iqr > _SPREAD * summary.median:
        yield Doubt(f"half of the samples spread over {100 * summary.iqr / summary.median:.0f}% of the median")
    loop = min(process.loop_ns for process in processes)
    if batch > 1 and loop > _LOOP * summary.median * 1e3:
        yield Doubt(f"{loop:.0f} ns of each call are the loop's own")
    of = sum(len(one.samples.samples_us) for one in series)
    if calm == 0:
        yield Doubt(f"too few of {of} samples were taken in calm, so that all of them count", grave=True)
    elif calm < _ENOUGH_CALM * of:
        yield Doubt(f"{of - calm} of {of} samples were disturbed by other work on the machine and are set aside")
    yield from _about_the_machine(processes)


def _about_the_machine(processes: Sequence[Measurement]) -> Iterator[Doubt]:
    load, cpus = max(_known(process.after.load for process in processes), default=0.0), processes[-1].after.cpus
    if cpus and load > cpus + 0.5:
        yield Doubt(f"the machine is busy: load {load:.1f} on {cpus} CPUs")
    if any(_grew(process.before.throttled, process.after.throttled) for process in processes):
        yield Doubt("the CPU was throttled for heat", grave=True)
    stolen = sum(_grew(process.before.stolen_s, process.after.stolen_s) for process in processes)
    share = stolen / max(sum(process.seconds for process in processes) * (os.cpu_count() or 1), 1e-9)
    if share > _STOLEN:
        yield Doubt(f"the hypervisor gave {100 * share:.0f}% of the time to other machines")
    speeds = list(_known(state.mhz for process in processes for state in (process.before, process.after)))
    if speeds and max(speeds) > (1 + _FREQUENCY) * min(speeds):
        yield Doubt(f"the CPU's frequency moved between {min(speeds):.0f} and {max(speeds):.0f} MHz")


def _known(values: Iterable[float | None]) -> Iterator[float]:
    return (value for value in values if value is not None)


def _grew(before: float | None, after: float | None) -> float:
    return 0.0 if before is None or after is None else max(0.0, after - before)


EAGER = "eager"
"""The name under which :func:`latency` finds eager torch among a measurement's series."""


@dataclass(frozen=True, slots=True)
class Latency:
    """One call's latency in microseconds, and its ratio to eager torch where eager was sampled beside it.

    ``low_us`` and ``high_us`` enclose the median with 95% confidence, ``ratio_low`` and ``ratio_high`` the ratio. With
    ``low_us`` and ``high_us`` enclose the median with 95% confidence, ``ratio_low`` and ``ratio_high`` the ratio. With
    several ``processes`` the median is that of the processes' medians, and the intervals are theirs: processes differ
    by more than the calls in one of them. ``samples`` are means of ``batch`` calls each, of which the ``calm`` ones
    count, as long as there are enough of them (:mod:`harness.latency.conditions`). ``p90_us`` and ``p99_us`` are None where
    samples are too few, and ``p99_us`` also where samples are means of several calls.

    ``noise`` is the A/A comparison: by how much the slow half of the processes is above the quick half, which ran the
    same (0.02 is 2%). ``quotable`` is False where one of ``notes`` makes the figure no more than a hint.

    ``samples_us`` and ``eager_samples_us`` are all raw samples, a list for each process, and ``interrupted`` and
    ``pace_us`` what :class:`harness.latency.conditions.Samples` says of those in ``samples_us``.
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


_CALL = "call"
_TIMER = wall_timer()  # its resolution is found out once in a process


def quick(
    call: Call,
    baseline: Call | None = None,
    budget_s: float = 0.01,
    *,
    timer: Timer | None = None,
    machine: Callable[[], MachineState] = read_machine,
    between: Call | None = None,
) -> Latency:
    """Sample ``call`` in turns with ``baseline``, which is eager torch on the same inputs.

    ``between`` is another pace than that of :func:`harness.latency.conditions.pace`. About ``budget_s`` is spent; more
    where a single call is long, and then no more than ten times as much plus the last round. The order within a round
    is drawn from a fixed seed.
    """
    calls = {_CALL: call} if baseline is None else {_CALL: call, EAGER: baseline}
    effort = Effort(budget_s=0.7 * budget_s, least=10, most=40, warmup_s=0.1 * budget_s, patience_s=10 * budget_s)
    order = random.Random(0)  # noqa: S311 - an order, no secret
    return latency(_CALL, [measure(calls, effort, order, timer or _TIMER, machine, between or _pace())])


@cache
def _pace() -> Call:
    return pace()
