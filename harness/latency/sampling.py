"""Calls sampled in turns: each is warmed up, batched well above the clock's resolution, and timed once in every round.

Whatever disturbs the machine for a while disturbs all calls alike, so the samples of one round belong together.
:class:`Timer` knows the clock's resolution, the overhead of the loop around a batch, and whether a batch was
interrupted.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise, repeat
from statistics import median

from harness.latency.conditions import CALIBRATION_REPEATS, MachineState, Samples, preemptions, read_machine

Call = Callable[[], object]

# A warm-up is over once the median of this many calls is within 5% of the best such median before it.
_CHUNK = 5
_STEADY = 0.95

# Before each timed batch, a quarter of it and at least one call is made untimed: the call sampled before has filled the
# caches with its own data, and what is timed is a call that is made again and again.
_LEAD_IN = 4


@dataclass(frozen=True, slots=True)
class SamplingLimits:
    """How much time and how many rounds a measurement may take.

    ``budget_s`` is for all rounds together. At least ``min_rounds`` and at most ``max_rounds`` are made, whatever the
    budget, unless ``max_s`` is over. ``warmup_s`` is for each call; one timed batch lasts at least ``min_batch_s``.
    """

    budget_s: float
    min_rounds: int
    max_rounds: int
    warmup_s: float
    max_s: float
    min_batch_s: float = 50e-6


@dataclass(frozen=True, slots=True)
class Series:
    """One call's samples, each the mean of ``batch`` calls.

    ``first_us`` is the very first call of the warm-up, ``warmup_calls`` how many there were.
    """

    samples: Samples
    batch: int
    warmup_calls: int
    first_us: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """All series by name, sample ``i`` of each from round ``i``, and the machine before and after.

    ``seconds`` is the duration of the measurement, warm-up included.
    """

    series: Mapping[str, Series]
    seconds: float
    resolution_ns: int
    loop_ns: float
    before: MachineState = field(default_factory=MachineState)
    after: MachineState = field(default_factory=MachineState)


def measure(
    calls: Mapping[str, Call],
    limits: SamplingLimits,
    rng: random.Random,
    timer: Timer | None = None,
    machine: Callable[[], MachineState] = read_machine,
    calibration: Call | None = None,
) -> Measurement:
    """Sample every call once per round, in an order that ``rng`` draws anew for each round.

    ``calibration`` is timed before and after each of them.
    """
    timer = timer or Timer()
    resolution, loop = timer.resolution_ns, timer.loop_ns
    with without_garbage_collection():
        start = timer.clock()
        warmups = {name: _warm_up(call, limits, timer) for name, call in calls.items()}
        before = machine()
        sampler = _Sampler(calls, {name: warmup.batch for name, warmup in warmups.items()}, timer, calibration)
        _run_rounds(sampler, limits, rng)
        after = machine()
        seconds = (timer.clock() - start) / 1e9
    series = {
        name: Series(sampler.samples(name), warmup.batch, warmup.calls, warmup.first_ns / 1e3)
        for name, warmup in warmups.items()
    }
    return Measurement(series, seconds, resolution, loop, before, after)


class _Sampler:
    """Takes samples round by round, and keeps them."""

    def __init__(
        self, calls: Mapping[str, Call], batches: Mapping[str, int], timer: Timer, calibration: Call | None
    ) -> None:
        self.timer, self.names = timer, tuple(calls)
        self._calls, self._batches, self._calibration = calls, batches, calibration
        self._samples_us: dict[str, list[float]] = {name: [] for name in calls}
        self._interrupted: dict[str, set[int]] = {name: set() for name in calls}
        self._calibration_us: dict[str, list[float]] = {name: [] for name in calls}

    def round(self, order: Sequence[str]) -> None:
        """Take one sample of every call, in this order."""
        before = self._calibrate()
        for name in order:
            call, batch = self._calls[name], self._batches[name]
            for _ in range(1 + batch // _LEAD_IN):
                call()
            batch_ns, interrupted = self.timer.batch_and_interrupted(call, batch)
            if interrupted:
                self._interrupted[name].add(len(self._samples_us[name]))
            self._samples_us[name].append(batch_ns / batch / 1e3)
            after = self._calibrate()
            if before is not None and after is not None:
                self._calibration_us[name].append(max(before, after))
            before = after

    def samples(self, name: str) -> Samples:
        """All samples of one call."""
        interrupted = frozenset(self._interrupted[name])
        return Samples(tuple(self._samples_us[name]), interrupted, tuple(self._calibration_us[name]))

    def _calibrate(self) -> float | None:
        if self._calibration is None:
            return None
        return min(self.timer.batch(self._calibration, 1) for _ in range(CALIBRATION_REPEATS)) / 1e3


def _run_rounds(sampler: _Sampler, limits: SamplingLimits, rng: random.Random) -> None:
    clock = sampler.timer.clock
    order, start = list(sampler.names), clock()
    for done in range(limits.max_rounds):
        spent = (clock() - start) / 1e9
        if done and (spent >= limits.max_s or (done >= limits.min_rounds and spent >= limits.budget_s)):
            break
        rng.shuffle(order)
        sampler.round(order)


@dataclass(frozen=True, slots=True)
class _WarmUp:
    first_ns: int
    calls: int
    batch: int


def _warm_up(call: Call, limits: SamplingLimits, timer: Timer) -> _WarmUp:
    """Call until the time of a call no longer falls, or the time for it is over; choose the batch size."""
    start = timer.clock()
    first = timer.batch(call, 1)
    calls, best, last = 1, float("inf"), float(first)
    steady = False
    while not steady and (timer.clock() - start) / 1e9 < limits.warmup_s:
        chunk: list[int] = []
        while len(chunk) < _CHUNK and (not chunk or (timer.clock() - start) / 1e9 < limits.warmup_s):
            chunk.append(timer.batch(call, 1))
        calls += len(chunk)
        last = median(chunk)
        steady = last >= _STEADY * best
        best = min(best, last)
    typical = max(min(best, last), timer.resolution_ns)
    return _WarmUp(first, calls, max(1, round(_batch_ns(limits, timer) / typical)))


def _batch_ns(limits: SamplingLimits, timer: Timer) -> float:
    """How long a batch should last: far above the clock's resolution, as long as the budget holds enough batches."""
    minimum, maximum = limits.min_batch_s * 1e9, limits.budget_s * 1e9 / limits.min_rounds
    return max(minimum, min(100.0 * timer.resolution_ns, maximum))


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """No garbage collection in the block: a collection walks every library's objects and falls into one sample."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


# The clock

_READINGS = 200
_LOOP_TURNS = 1000


class Timer:
    """Times batches of calls by ``clock``, which gives nanoseconds and never goes back.

    ``interruptions`` counts how often this process had to give up the CPU to others.
    """

    def __init__(
        self, clock: Callable[[], int] = time.perf_counter_ns, interruptions: Callable[[], int] = lambda: 0
    ) -> None:
        self.clock = clock
        self._interruptions = interruptions

    def batch(self, call: Callable[[], object], turns: int) -> int:
        """Nanoseconds that ``turns`` calls take together."""
        clock = self.clock
        if turns == 1:
            start = clock()
            call()
            return clock() - start
        loop = repeat(None, turns)
        start = clock()
        for _ in loop:
            call()
        return clock() - start

    def batch_and_interrupted(self, call: Callable[[], object], turns: int) -> tuple[int, bool]:
        """As :meth:`batch`, and whether another process got the CPU meanwhile, which is then part of the time."""
        before = self._interruptions()
        batch_ns = self.batch(call, turns)
        return batch_ns, self._interruptions() > before

    @cached_property
    def resolution_ns(self) -> int:
        """The smallest step between two readings that differ, their own cost included; at least 1."""
        readings = [self.clock() for _ in range(_READINGS)]
        steps = (after - before for before, after in pairwise(readings))
        return min((step for step in steps if step > 0), default=1)

    @cached_property
    def loop_ns(self) -> float:
        """The cost of one turn of the loop in :meth:`batch`, which is part of every time of a batch."""
        clock, loop = self.clock, repeat(None, _LOOP_TURNS)
        start = clock()
        for _ in loop:
            pass
        return (clock() - start) / _LOOP_TURNS


def wall_timer() -> Timer:
    """The wall clock, with this process's own interruptions."""
    return Timer(time.perf_counter_ns, preemptions)
