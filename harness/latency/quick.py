"""The figure that every passing check gets: a few milliseconds for a small layer, and honest about its limits."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from harness.latency.machine import MachineState, read_machine
from harness.latency.noise import doubts
from harness.latency.ratio import paired_ratio
from harness.latency.sampling import Call, Effort, measure
from harness.latency.statistics import summarise
from harness.latency.timer import Timer

_CALL, _BASELINE = "call", "eager"
_TIMER = Timer()  # its resolution is found out once in a process


@dataclass(frozen=True, slots=True)
class Latency:
    """One call's latency in microseconds, and its ratio to eager torch where there is a baseline.

    ``low_us`` and ``high_us`` enclose the median with 95% confidence. ``samples`` are means of ``batch`` calls each.
    ``warmup_calls`` came before. ``quotable`` is False where one of ``notes`` makes the figure no more than a hint.
    """

    median_us: float
    low_us: float | None
    high_us: float | None
    iqr_us: float
    samples: int
    batch: int
    warmup_calls: int
    eager_us: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    quotable: bool
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As ``report.json`` holds it, with four significant digits; a measurement has no more."""
        return {key: _rounded(value) for key, value in asdict(self).items()}


def quick(
    call: Call,
    baseline: Call | None = None,
    budget_s: float = 0.01,
    *,
    timer: Timer | None = None,
    machine: Callable[[], MachineState] = read_machine,
) -> Latency:
    """Sample ``call`` in turns with ``baseline``, which is eager torch on the same inputs.

    About ``budget_s`` is spent; more where a single call is long, and then no more than ten times as much plus the last
    round. The order within a round is drawn from a fixed seed.
    """
    calls = {_CALL: call} if baseline is None else {_CALL: call, _BASELINE: baseline}
    effort = Effort(budget_s=0.7 * budget_s, least=10, most=40, warmup_s=0.15 * budget_s, patience_s=10 * budget_s)
    measurement = measure(calls, effort, random.Random(0), timer or _TIMER, machine)  # noqa: S311 - an order, no secret
    series = measurement.series[_CALL]
    summary = summarise(series.samples_us)
    found = list(doubts(series, summary, measurement))
    eager = measurement.series.get(_BASELINE)
    ratio = None if eager is None else paired_ratio(series.samples_us, eager.samples_us)
    return Latency(
        median_us=summary.median,
        low_us=summary.low,
        high_us=summary.high,
        iqr_us=summary.iqr,
        samples=summary.count,
        batch=series.batch,
        warmup_calls=series.warmup_calls,
        eager_us=None if eager is None else summarise(eager.samples_us).median,
        ratio=None if ratio is None else ratio.value,
        ratio_low=None if ratio is None else ratio.low,
        ratio_high=None if ratio is None else ratio.high,
        quotable=not any(doubt.grave for doubt in found),
        notes=tuple(doubt.text for doubt in found),
    )


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else list(value) if isinstance(value, tuple) else value
