"""What makes a figure doubtful, in words, and whether it is worth quoting."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness.latency.sampling import Measurement, Series
from harness.latency.statistics import Summary

_NEAR_THE_CLOCK = 20  # resolutions that a batch must last at least
_WIDE = 0.10  # of the median, either way
_SPREAD = 0.25  # of the median, between the quartiles
_LOOP = 0.02  # of the median
_CALM = 0.75  # of the samples
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
    elif calm < _CALM * of:
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
