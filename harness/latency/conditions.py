"""The state of the machine during a measurement, and the samples that other work did not disturb.

The calibration loop is the same small piece of arithmetic, timed between all calls, in every measurement. Its time
shows the state of the machine at that moment: its clock frequency, and whether a neighbour works on the same core.
Samples taken while the loop is slow say more about the neighbours than about the call. Where two measurements differ
and their calibration loops differ alike, the machine has changed and not the call. The loop belongs to no model and no
runtime, so nothing under test can change it.

A shared machine slows down for seconds and for minutes. Each repetition has its own calibration time, so the
repetitions of one side show how far the call follows the machine, whatever lies between the two sides.
:func:`normalised_times` removes that share. It is an analysis of covariance with the calibration time as covariate and
Sen's median of slopes in place of least squares (Sen, *Estimates of the Regression Coefficient Based on Kendall's Tau*,
JASA 63, 1968), over pairs within a side only.
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

from harness.environment import usable_cpus

# The machine

_THROTTLE_COUNTS = "devices/system/cpu/cpu*/thermal_throttle/core_throttle_count"


@dataclass(frozen=True, slots=True)
class MachineState:
    """The machine at one moment; a field is None where the system does not provide it.

    ``load`` is the load average of the last minute, ``cpus`` the number of CPUs that this process may use.
    ``preempted`` counts how often this process had to give up the CPU, ``throttled`` how often a core was slowed down
    for heat, both since start. ``stolen_s`` are the seconds that a hypervisor gave to other machines, ``mhz`` is the
    mean frequency of the cores.
    """

    load: float | None = None
    preempted: int | None = None
    throttled: int | None = None
    cpus: int | None = None
    stolen_s: float | None = None
    mhz: float | None = None


def read_machine() -> MachineState:
    """Read what takes microseconds: load, preemptions and CPUs."""
    return MachineState(load=_load(), preempted=preemptions(), cpus=usable_cpus())


def read_machine_thoroughly() -> MachineState:
    """Read everything, also what takes one file per core: thermal throttling, frequencies, stolen time."""
    return MachineState(_load(), preemptions(), throttle_count(Path("/sys")), usable_cpus(), _stolen(), _mhz())


def preemptions() -> int:
    """How often the system took the CPU from this process, over all its threads."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def throttle_count(system: Path) -> int | None:
    """The sum over all cores below ``system``, which is ``/sys`` on Linux; None where no core has a counter."""
    counts = [int(file.read_text(encoding="ascii")) for file in system.glob(_THROTTLE_COUNTS)]
    return sum(counts) if counts else None


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _stolen() -> float | None:
    return getattr(psutil.cpu_times(), "steal", None)


def _mhz() -> float | None:
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    return None if frequency is None else frequency.current or None


# The calibration loop

_MATRIX_SIZE = 48  # small enough that every BLAS stays on one thread, and in the first cache
_PRODUCTS = 3
CALIBRATION_REPEATS = 5
"""The calibration time of a moment is the fastest of so many runs: the cache content before it slows a single run."""


def calibration_loop() -> Callable[[], object]:
    """Return about 10 us of arithmetic on its own memory, warmed up; run it before and after each call."""
    left, right = (np.full((_MATRIX_SIZE, _MATRIX_SIZE), 1 / _MATRIX_SIZE, np.float32) for _ in range(2))
    product = np.empty_like(left)

    def multiply() -> None:
        for _ in range(_PRODUCTS):
            np.matmul(left, right, out=product)

    for _ in range(10):
        multiply()
    return multiply


# Undisturbed samples

# A sample is undisturbed up to so many times the best calibration time. A core shared with a neighbour takes 1.3 times
# as long as a core alone, or more.
_UNDISTURBED = 1.2
# So many samples are faster than what counts as the fastest: the very fastest is luck.
_FASTEST = 0.05
MIN_ROUNDS = 3
"""A process with fewer undisturbed samples is left out."""
MIN_ROUNDS_ALONE = 6
"""The undisturbed samples that are needed where one process is all there is.

Of several processes, more than half must have enough undisturbed samples.
"""


@dataclass(frozen=True, slots=True)
class Samples:
    """One call's samples in one process, in microseconds per call, one for each round.

    ``interrupted`` are the rounds in which another process got the CPU. ``calibration_us`` is the slower one of the
    calibration times before and after each sample; empty where not measured.
    """

    samples_us: Sequence[float]
    interrupted: Collection[int] = frozenset()
    calibration_us: Sequence[float] = ()


def undisturbed_time(samples_us: Sequence[float]) -> float:
    """How long a call takes while nothing disturbs it; other work on the machine only ever adds time.

    It is the 5% quantile. Infinite for an empty sequence.
    """
    return float(np.quantile(samples_us, _FASTEST)) if len(samples_us) else float("inf")


def undisturbed_rounds(samples: Samples, best_calibration_us: float) -> tuple[int, ...]:
    """The rounds without interruption whose calibration time is near ``best_calibration_us``."""
    return tuple(
        round_
        for round_ in range(len(samples.samples_us))
        if round_ not in samples.interrupted
        and (not samples.calibration_us or samples.calibration_us[round_] <= _UNDISTURBED * best_calibration_us)
    )


def counted_rounds(processes: Sequence[Samples]) -> list[tuple[int, ...]]:
    """The rounds of each process that count for a figure: the undisturbed ones, by the best time of these processes.

    A process with too few of them counts no round. No process counts any where that would leave out half of the
    processes: then there is nothing better than all samples.
    """
    best = undisturbed_time([time for process in processes for time in process.calibration_us])
    minimum = MIN_ROUNDS_ALONE if len(processes) == 1 else MIN_ROUNDS
    undisturbed = (undisturbed_rounds(process, best) for process in processes)
    counted = [rounds if len(rounds) >= minimum else () for rounds in undisturbed]
    return counted if 2 * sum(map(bool, counted)) > len(counted) else [()] * len(counted)


# Normalised times

Floats = NDArray[np.float64]

# A call follows the calibration time in much the same way up to so many times the best one; beyond that, another
# process had the core.
_NEAR_BEST = log(1.1)
# Two calibration times that are closer together than this do not show how the call follows them.
_MIN_DISTANCE = 0.003
# With a slope below the minimum, the call follows something else; a slope above the maximum is chance.
_MIN_SLOPE, _MAX_SLOPE = 1 / 3, 1.5
# The sides' calibration times may differ by so much of their range within a side. Beyond that, no repetition shows how
# the call follows.
_MAX_SHIFT = 2 / 3

LogTimes = tuple[Floats, Floats]
"""Logarithms of the times of the call and of the calibration loop, one pair for each repetition."""


def normalised_times(old: LogTimes, new: LogTimes, min_repetitions: int) -> tuple[Floats, Floats] | None:
    """Return the logarithms of both sides' times, normalised to the best calibration time of all repetitions.

    Repetitions far from the best calibration time are left out. Returns None where the repetitions do not show how
    the call follows the calibration time, or where fewer than ``min_repetitions`` are left of a side.
    """
    best = float(min(old[1].min(), new[1].min()))
    old, new = _near_best(old, best), _near_best(new, best)
    if min(len(old[0]), len(new[0])) < min_repetitions:
        return None
    shift = abs(float(np.median(new[1][:, None] - old[1][None, :])))
    if shift > _MAX_SHIFT * max(float(np.ptp(old[1])), float(np.ptp(new[1]))):
        return None
    slope = _median_slope(old, new)
    if slope is None or slope < _MIN_SLOPE:
        return None
    return _normalise(old, best, slope), _normalise(new, best, slope)


def _near_best(side: LogTimes, best: float) -> LogTimes:
    times, calibration = side
    near = calibration <= best + _NEAR_BEST
    return times[near], calibration[near]


def _median_slope(*sides: LogTimes) -> float | None:
    """How much a time grows with the calibration time; None where hardly any two calibration times of a side differ."""
    slopes_by_side: list[Floats] = []
    for times, calibration in sides:
        first, second = np.triu_indices(len(times), 1)
        distance = calibration[second] - calibration[first]
        usable = np.abs(distance) > _MIN_DISTANCE
        slopes_by_side.append((times[second] - times[first])[usable] / distance[usable])
    slopes = np.concatenate(slopes_by_side)
    return float(np.median(slopes)) if len(slopes) > sum(len(times) for times, _ in sides) else None


def _normalise(side: LogTimes, best: float, slope: float) -> Floats:
    times, calibration = side
    return np.asarray(times - min(slope, _MAX_SLOPE) * (calibration - best), dtype=np.float64)
