"""The clock, how fine it is, what the loop around a batch of calls costs, and whether a batch was interrupted."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise, repeat

from harness.latency.machine import preemptions

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
