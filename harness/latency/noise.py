"""What makes a figure doubtful, in words, and whether it is worth quoting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.latency.machine import MachineState
from harness.latency.sampling import Measurement, Series
from harness.latency.statistics import Summary

_NEAR_THE_CLOCK = 20  # resolutions that a batch must last at least
_WIDE = 0.10  # of the median, either way
_SPREAD = 0.25  # of the median, between the quartiles
_LOOP = 0.02  # of the median


@dataclass(frozen=True, slots=True)
class Doubt:
    """One reason for caution; where it is ``grave``, the figure is not worth quoting."""

    text: str
    grave: bool = False


def doubts(series: Series, summary: Summary, measurement: Measurement) -> Iterator[Doubt]:
    """Every reason that one series of ``measurement`` gives."""
    lasted = summary.median * series.batch * 1e3
    if lasted < _NEAR_THE_CLOCK * measurement.resolution_ns:
        yield Doubt(f"a sample lasts {lasted:.0f} ns on a clock of {measurement.resolution_ns} ns", grave=True)
    if summary.low is None or summary.high is None:
        yield Doubt(f"{summary.count} samples are too few for an interval", grave=True)
    elif max(summary.high - summary.median, summary.median - summary.low) > _WIDE * summary.median:
        yield Doubt(f"the median is known to lie between {summary.low:.3g} and {summary.high:.3g} us only", grave=True)
    if summary.iqr > _SPREAD * summary.median:
        yield Doubt(f"half of the samples spread over {100 * summary.iqr / summary.median:.0f}% of the median")
    if series.batch > 1 and measurement.loop_ns > _LOOP * summary.median * 1e3:
        yield Doubt(f"{measurement.loop_ns:.0f} ns of each call are the loop's own")
    yield from _about_the_machine(measurement.before, measurement.after, summary.count)


def _about_the_machine(before: MachineState, after: MachineState, samples: int) -> Iterator[Doubt]:
    if after.load is not None and after.cpus and after.load > after.cpus + 0.5:
        yield Doubt(f"the machine is busy: load {after.load:.1f} on {after.cpus} CPUs")
    if before.preempted is not None and after.preempted is not None:
        times = after.preempted - before.preempted
        if times > samples // 4:
            yield Doubt(f"the process was preempted {times} times")
    if before.throttled is not None and after.throttled is not None and after.throttled > before.throttled:
        yield Doubt("the CPU was throttled for heat", grave=True)
