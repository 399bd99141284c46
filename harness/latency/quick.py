"""The figure that every passing check gets: a few milliseconds for a small layer, and honest about its limits."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache

from harness.latency.figure import EAGER, Latency, latency
from harness.latency.machine import MachineState, read_machine
from harness.latency.pace import pace
from harness.latency.sampling import Call, Effort, measure
from harness.latency.timer import Timer, wall_timer

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

    ``between`` is another pace than that of :func:`harness.latency.pace.pace`. About ``budget_s`` is spent; more
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
