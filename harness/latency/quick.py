"""The figure that every passing check gets: a few milliseconds for a small layer, and honest about its limits."""

from __future__ import annotations

import random
from collections.abc import Callable

from harness.latency.figure import EAGER, PACE, Latency, latency
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
    yardstick: Call | None = None,
) -> Latency:
    """Sample ``call`` in turns with ``baseline``, which is eager torch on the same inputs, and with ``yardstick``.

    The yardstick is the pace, if no other is given. About ``budget_s`` is spent; more where a single call is long, and
    then no more than ten times as much plus the last round. The order within a round is drawn from a fixed seed.
    """
    calls = {_CALL: call, **({} if baseline is None else {EAGER: baseline}), PACE: yardstick or pace()}
    effort = Effort(budget_s=0.7 * budget_s, least=10, most=40, warmup_s=0.1 * budget_s, patience_s=10 * budget_s)
    return latency(_CALL, [measure(calls, effort, random.Random(0), timer or _TIMER, machine)])  # noqa: S311 - an order
