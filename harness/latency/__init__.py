"""How long a call takes: sampled in turns with the call it is compared with, and reported with its confidence.

:func:`smoke_timing` is what every passing check gets; :func:`measure` samples the calls, also for ``harness bench``.
"""

from __future__ import annotations

from harness.latency.figure import Latency, latency, smoke_timing
from harness.latency.sampling import Measurement, SamplingLimits, Series, Timer, measure
from harness.latency.statistics import Ratio, Summary, paired_ratio, summarise

__all__ = [
    "Latency",
    "Measurement",
    "Ratio",
    "SamplingLimits",
    "Series",
    "Summary",
    "Timer",
    "latency",
    "measure",
    "paired_ratio",
    "smoke_timing",
    "summarise",
]
