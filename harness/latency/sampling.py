"""Calls sampled in turns: each is warmed up, batched well above the clock, and timed once in every round.

What disturbs the machine for a while disturbs all calls alike, so that figures of one round belong together.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from harness.latency.machine import MachineState, read_machine
from harness.latency.timer import Timer, garbage_left_alone

Call = Callable[[], object]

# A warm-up is over once the median of this many calls is within 5% of the best such median before it.
_CHUNK = 5
_STEADY = 0.95

# So many undisturbed samples are enough to do without the disturbed ones.
_FEW = 6


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
    """One call's samples in microseconds a call, one for each round; each is the mean of ``batch`` calls.

    ``first_us`` is the very first call of the warm-up, ``warmup_calls`` how many there were. ``interrupted`` are the
    rounds in which another process was given the CPU while this call was timed.
    """

    samples_us: tuple[float, ...]
    batch: int
    warmup_calls: int
    first_us: float
    interrupted: frozenset[int] = frozenset()

    @property
    def undisturbed_us(self) -> tuple[float, ...]:
        """The samples of this call alone; all of them where too few are."""
        kept = tuple(us for at, us in enumerate(self.samples_us) if at not in self.interrupted)
        return kept if len(kept) >= max(_FEW, len(self.samples_us) // 4) else self.samples_us


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
) -> Measurement:
    """Sample every call once a round, in an order that ``rng`` draws anew for each round."""
    timer = timer or Timer()
    resolution, loop = timer.resolution_ns, timer.loop_ns
    with garbage_left_alone():
        start = timer.clock()
        warm = {name: _warm_up(call, effort, timer) for name, call in calls.items()}
        before = machine()
        taken = _rounds(calls, {name: state.batch for name, state in warm.items()}, effort, rng, timer)
        after = machine()
        seconds = (timer.clock() - start) / 1e9
    series = {name: state.series(taken[name]) for name, state in warm.items()}
    return Measurement(series, seconds, resolution, loop, before, after)


def _rounds(
    calls: Mapping[str, Call], batches: Mapping[str, int], effort: Effort, rng: random.Random, timer: Timer
) -> dict[str, list[tuple[int, bool]]]:
    taken: dict[str, list[tuple[int, bool]]] = {name: [] for name in calls}
    order = list(calls)
    start = timer.clock()
    for done in range(effort.most):
        spent = (timer.clock() - start) / 1e9
        if done and (spent >= effort.patience_s or (done >= effort.least and spent >= effort.budget_s)):
            break
        rng.shuffle(order)
        for name in order:
            taken[name].append(timer.watched_batch(calls[name], batches[name]))
    return taken


@dataclass(frozen=True, slots=True)
class _Warm:
    first_ns: int
    calls: int
    batch: int

    def series(self, taken: Sequence[tuple[int, bool]]) -> Series:
        return Series(
            samples_us=tuple(lasted / self.batch / 1e3 for lasted, _ in taken),
            batch=self.batch,
            warmup_calls=self.calls,
            first_us=self.first_ns / 1e3,
            interrupted=frozenset(at for at, (_, disturbed) in enumerate(taken) if disturbed),
        )


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
