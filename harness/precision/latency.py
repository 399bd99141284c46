"""How long lowered models take, sampled in turns."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from harness.latency import SamplingLimits, latency
from harness.latency import measure as measure_calls
from harness.latency.conditions import calibration_loop
from harness.latency.sampling import Call, wall_timer

TIMING = SamplingLimits(budget_s=4.0, min_rounds=10, max_rounds=40, warmup_s=0.2, max_s=20.0)


@dataclass(frozen=True, slots=True)
class Timing:
    """The latency of one choice in microseconds with its 95 % interval; None in ``median_us`` where it does not run."""

    median_us: float | None
    low_us: float | None = None
    high_us: float | None = None
    low_confidence: bool = False


def timed(calls: Mapping[str, Call]) -> dict[str, Timing]:
    """The latency of each call, sampled in turns."""
    rng = random.Random(0)  # noqa: S311 - an order, no secret
    measurement = measure_calls(calls, TIMING, rng, wall_timer(), calibration=calibration_loop())
    figures = {name: latency(name, [measurement]) for name in calls}
    return {
        name: Timing(each.median_us, each.low_us, each.high_us, each.low_confidence) for name, each in figures.items()
    }


def latency_text(timing: Timing) -> str:
    """``1.23 ms (1.2 to 1.3)``, with a remark where it is too noisy to quote."""
    if timing.median_us is None:
        return "does not run"
    interval = (
        ""
        if timing.low_us is None or timing.high_us is None
        else f" ({timing.low_us / 1e3:.3g} to {timing.high_us / 1e3:.3g})"
    )
    return f"{timing.median_us / 1e3:.3g} ms{interval}{', low confidence' if timing.low_confidence else ''}"
