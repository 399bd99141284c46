"""The clock, how fine it is, what the loop around a batch of calls costs, and whether a batch was interrupted.

Calls sampled in turns: each is warmed up, batched well above the clock, and timed once in every round.

What disturbs the machine for a while disturbs all calls alike, so that figures of one round belong together.
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

from harness.latency.conditions import PIECES, MachineState, Samples, preemptions, read_machine

_READINGS = 200
_TURNS = 1000


class Timer:
    """Times batches of calls by ``clock``, which gives nanoseconds and never goes back.

    ``interruptions`` counts how often this process had to give way to others.
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

    def watched_batch(self, call: Callable[[], object], turns: int) -> tuple[int, bool]:
        """The same, and whether another process was given the CPU meanwhile: then the time is partly that one's."""
        before = self._interruptions()
        lasted = self.batch(call, turns)
        return lasted, self._interruptions() > before

    @cached_property
    def resolution_ns(self) -> int:
        """The smallest step between two readings that differ, their own cost included; at least 1."""
        readings = [self.clock() for _ in range(_READINGS)]
        steps = (after - before for before, after in pairwise(readings))
        return min((step for step in steps if step > 0), default=1)

    @cached_property
    def loop_ns(self) -> float:
        """What one turn of the loop in :meth:`batch` costs by itself: it is part of every figure of a batch."""
        clock, loop = self.clock, repeat(None, _TURNS)
        start = clock()
        for _ in loop:
            pass
        return (clock() - start) / _TURNS


def wall_timer() -> Timer:
    """The wall clock, with this process's own interruptions."""
    return Timer(time.perf_counter_ns, preemptions)


@contextmanager
def garbage_left_alone() -> Iterator[None]:
    """No garbage collection in the block: a collection walks every library's objects and lands on one sample."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


Call = Callable[[], object]

# A warm-up is over once the median of this many calls is within 5% of the best such median before it.
_CHUNK = 5
_STEADY = 0.95

# Before each timed batch, a quarter of it and at least one call is made untimed: what was sampled before left the
# caches full of its own, and what is timed is a call that is made again and again.
_LEAD_IN = 4


@dataclass(frozen=True, slots=True)
class Effort:
    """How much may be spent.

    ``budget_s`` is for all rounds together; between ``least`` and ``most`` of them are made, whatever the budget,
    unless ``patience_s`` is over. ``warmup_s`` is for each call, ``batch_s`` is the least that one timed batch lasts.
    """

    budget_s: float
    least: int
    most: int
    warmup_s: float
    patience_s: float
    batch_s: float = 50e-6


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

    ``seconds`` is what the measurement took, warm-up included.
    """

    series: Mapping[str, Series]
    seconds: float
    resolution_ns: int
    loop_ns: float
    before: MachineState = field(default_factory=MachineState)
    after: MachineState = field(default_factory=MachineState)


def measure(
    calls: Mapping[str, Call],
    effort: Effort,
    rng: random.Random,
    timer: Timer | None = None,
    machine: Callable[[], MachineState] = read_machine,
    pace: Call | None = None,
) -> Measurement:
    """Sample every call once a round, in an order that ``rng`` draws anew for each round.

    ``pace`` is called before and after each of them.
    """
    timer = timer or Timer()
    resolution, loop = timer.resolution_ns, timer.loop_ns
    with garbage_left_alone():
        start = timer.clock()
        warm = {name: _warm_up(call, effort, timer) for name, call in calls.items()}
        before = machine()
        taken = _Taken(calls, {name: state.batch for name, state in warm.items()}, timer, pace)
        _rounds(taken, effort, rng)
        after = machine()
        seconds = (timer.clock() - start) / 1e9
    series = {
        name: Series(taken.samples(name), state.batch, state.calls, state.first_ns / 1e3)
        for name, state in warm.items()
    }
    return Measurement(series, seconds, resolution, loop, before, after)


class _Taken:
    """What has been sampled so far, round by round."""

    def __init__(self, calls: Mapping[str, Call], batches: Mapping[str, int], timer: Timer, pace: Call | None) -> None:
        self.timer, self.names = timer, tuple(calls)
        self._calls, self._batches, self._work = calls, batches, pace
        self._us: dict[str, list[float]] = {name: [] for name in calls}
        self._interrupted: dict[str, set[int]] = {name: set() for name in calls}
        self._pace_us: dict[str, list[float]] = {name: [] for name in calls}

    def round(self, order: Sequence[str]) -> None:
        """One sample of every call, in this order."""
        before = self._pace()
        for name in order:
            call, batch = self._calls[name], self._batches[name]
            for _ in range(1 + batch // _LEAD_IN):
                call()
            lasted, interrupted = self.timer.watched_batch(call, batch)
            if interrupted:
                self._interrupted[name].add(len(self._us[name]))
            self._us[name].append(lasted / batch / 1e3)
            after = self._pace()
            if before is not None and after is not None:
                self._pace_us[name].append(max(before, after))
            before = after

    def samples(self, name: str) -> Samples:
        """All samples of one call."""
        return Samples(tuple(self._us[name]), frozenset(self._interrupted[name]), tuple(self._pace_us[name]))

    def _pace(self) -> float | None:
        if self._work is None:
            return None
        return min(self.timer.batch(self._work, 1) for _ in range(PIECES)) / 1e3


def _rounds(taken: _Taken, effort: Effort, rng: random.Random) -> None:
    clock = taken.timer.clock
    order, start = list(taken.names), clock()
    for done in range(effort.most):
        spent = (clock() - start) / 1e9
        if done and (spent >= effort.patience_s or (done >= effort.least and spent >= effort.budget_s)):
            break
        rng.shuffle(order)
        taken.round(order)


@dataclass(frozen=True, slots=True)
class _Warm:
    first_ns: int
    calls: int
    batch: int


def _warm_up(call: Call, effort: Effort, timer: Timer) -> _Warm:
    """Call until the time of a call no longer falls, or the time for it is over; choose the batch."""
    start = timer.clock()
    first = timer.batch(call, 1)
    calls, best, last = 1, float("inf"), float(first)
    steady = False
    while not steady and (timer.clock() - start) / 1e9 < effort.warmup_s:
        chunk: list[int] = []
        while len(chunk) < _CHUNK and (not chunk or (timer.clock() - start) / 1e9 < effort.warmup_s):
            chunk.append(timer.batch(call, 1))
        calls += len(chunk)
        last = median(chunk)
        steady = last >= _STEADY * best
        best = min(best, last)
    typical = max(min(best, last), timer.resolution_ns)
    return _Warm(first, calls, max(1, round(_batch_ns(effort, timer) / typical)))


def _batch_ns(effort: Effort, timer: Timer) -> float:
    """How long a batch should last: far above the clock's resolution, as long as the budget holds enough of them."""
    least, bearable = effort.batch_s * 1e9, effort.budget_s * 1e9 / effort.least
    return max(least, min(100.0 * timer.resolution_ns, bearable))
