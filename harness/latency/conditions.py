"""The machine while it is measured: what else it does, and whether it slows down.

The pace: the same small work, between all that is timed, on every day.

How long it takes says in what state the machine is at that moment: its frequency, whether a neighbour works on the same
core. Samples taken while it goes slowly say more about the neighbours than about the call; and where two measurements
differ and their paces differ alike, the machine has changed and not the call. The work is no model's and no runtime's,
so that nothing that is under test can change it.

Which samples were taken while the machine was calm: nobody else on the CPU, and the pace near its best.

What each repetition would have come to at the machine's best pace, where the repetitions themselves tell.

A machine that is shared slows down for seconds and for minutes. Each repetition has its own pace
(:mod:`harness.latency.conditions`), so the repetitions of one side show how far the call follows the machine, without regard
to what lies between the sides. That share is taken off: the analysis of covariance, with the pace as covariate and
Sen's median of slopes in place of least squares (Sen, *Estimates of the Regression Coefficient Based on Kendall's Tau*,
JASA 63, 1968; over pairs within a side only).
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

_THROTTLE = "devices/system/cpu/cpu*/thermal_throttle/core_throttle_count"


@dataclass(frozen=True, slots=True)
class MachineState:
    """The machine at one moment; None where the system does not tell.

    ``load`` is the load average of the last minute, ``cpus`` how many CPUs this process may use. ``preempted`` counts
    how often this process had to give way, ``throttled`` how often a core was slowed down for heat, both since start.
    ``stolen_s`` are the seconds that a hypervisor gave to other machines, ``mhz`` is the mean frequency of the cores.
    """

    load: float | None = None
    preempted: int | None = None
    throttled: int | None = None
    cpus: int | None = None
    stolen_s: float | None = None
    mhz: float | None = None


def read_machine() -> MachineState:
    """What can be told in microseconds."""
    return MachineState(load=_load(), preempted=preemptions(), cpus=_cpus())


def read_machine_thoroughly() -> MachineState:
    """Also what takes a file for each core: thermal throttling, frequencies, time stolen."""
    return MachineState(_load(), preemptions(), throttle_count(Path("/sys")), _cpus(), _stolen(), _mhz())


def preemptions() -> int:
    """How often the system took the CPU from this process, all of its threads together."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def throttle_count(system: Path) -> int | None:
    """The sum over all cores below ``system``, which is ``/sys`` on Linux; None where no core counts."""
    counts = [int(file.read_text(encoding="ascii")) for file in system.glob(_THROTTLE)]
    return sum(counts) if counts else None


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _cpus() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _stolen() -> float | None:
    return getattr(psutil.cpu_times(), "steal", None)


def _mhz() -> float | None:
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    return None if frequency is None else frequency.current or None


_SIDE = 48  # small enough that every BLAS stays on one thread, and in the first cache
_PRODUCTS = 3
PIECES = 5
"""The pace of a moment is that of the quickest of so many: one alone is hit by what was in the cache before it."""


def pace() -> Callable[[], object]:
    """Arithmetic of some 10 us on memory of its own, warm; to be done before and after each call."""
    one, other = (np.full((_SIDE, _SIDE), 1 / _SIDE, np.float32) for _ in range(2))
    product = np.empty_like(one)

    def work() -> None:
        for _ in range(_PRODUCTS):
            np.matmul(one, other, out=product)

    for _ in range(10):
        work()
    return work


# A pace up to so many times its best is calm. Between a core alone and one shared with a neighbour lie 1.3 and more.
_CALM = 1.2
# So many samples are quicker than what counts as the quickest: the very quickest is luck.
_QUICKEST = 0.05
# A process with fewer calm samples says nothing.
FEW = 3
# One process alone needs so many calm samples; of several, more than half must have had a calm time.
ENOUGH = 6


@dataclass(frozen=True, slots=True)
class Samples:
    """One call's samples in one process, in microseconds a call, one for each round.

    ``interrupted`` are the rounds in which another process was given the CPU. ``pace_us`` is the slower one of the
    paces before and after each sample; empty where not measured.
    """

    samples_us: Sequence[float]
    interrupted: Collection[int] = frozenset()
    pace_us: Sequence[float] = ()


def quickest(samples_us: Sequence[float]) -> float:
    """What a call takes while nothing disturbs it: other work on the machine only ever adds.

    One in twenty samples is quicker. Infinite where there are none.
    """
    return float(np.quantile(samples_us, _QUICKEST)) if len(samples_us) else float("inf")


def calm(samples: Samples, best_pace_us: float) -> tuple[int, ...]:
    """The rounds in which the machine was calm, by its pace at its best."""
    return tuple(
        at
        for at in range(len(samples.samples_us))
        if at not in samples.interrupted and (not samples.pace_us or samples.pace_us[at] <= _CALM * best_pace_us)
    )


def counting(processes: Sequence[Samples]) -> list[tuple[int, ...]]:
    """The rounds of each process that count for a figure: the calm ones, by the machine's best in these processes.

    None of a process that has only few, and none of any where that would leave out half of them: then there is nothing
    better than all samples.
    """
    best = quickest([pace for one in processes for pace in one.pace_us])
    least = ENOUGH if len(processes) == 1 else FEW
    found = [rounds if len(rounds) >= least else () for rounds in (calm(one, best) for one in processes)]
    return found if 2 * sum(map(bool, found)) > len(found) else [()] * len(found)


Floats = NDArray[np.float64]

# How a call follows a pace is much the same up to so many times the best one; beyond, another process had the core.
_NEAR = log(1.1)
# Paces that are less far apart than this tell nothing of how the call follows them.
_APART = 0.003
# A call that follows the pace by less than the least slope follows something else; more than the most is chance.
_LEAST, _MOST = 1 / 3, 1.5
# The paces of the sides may differ by so much of what they differ by within a side: beyond, no repetition tells.
_WITHIN = 2 / 3

Side = tuple[Floats, Floats]
"""Logarithms of the figures and of the paces, repetition by repetition."""


def at_best_pace(old: Side, new: Side, enough: int) -> tuple[Floats, Floats] | None:
    """The logarithms of both sides' figures, each brought to the best pace of all; those far from it are left out.

    None where the repetitions do not tell how the call follows the pace, or fewer than ``enough`` are left of a side.
    """
    best = float(min(old[1].min(), new[1].min()))
    old, new = _near(old, best), _near(new, best)
    if min(len(old[0]), len(new[0])) < enough:
        return None
    between = abs(float(np.median(new[1][:, None] - old[1][None, :])))
    if between > _WITHIN * max(float(np.ptp(old[1])), float(np.ptp(new[1]))):
        return None
    slope = _slope(old, new)
    if slope is None or slope < _LEAST:
        return None
    return _brought(old, best, slope), _brought(new, best, slope)


def _near(side: Side, best: float) -> Side:
    figures, paces = side
    near = paces <= best + _NEAR
    return figures[near], paces[near]


def _slope(*sides: Side) -> float | None:
    """By how much a figure grows with the pace; None where hardly any two paces of a side differ."""
    slopes: list[Floats] = []
    for figures, paces in sides:
        one, other = np.triu_indices(len(figures), 1)
        apart = paces[other] - paces[one]
        tell = np.abs(apart) > _APART
        slopes.append((figures[other] - figures[one])[tell] / apart[tell])
    found = np.concatenate(slopes)
    return float(np.median(found)) if len(found) > sum(len(figures) for figures, _ in sides) else None


def _brought(side: Side, best: float, slope: float) -> Floats:
    figures, paces = side
    return np.asarray(figures - min(slope, _MOST) * (paces - best), dtype=np.float64)
