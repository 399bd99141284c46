"""How long a call takes: sampled in turns with what it is compared with, and told with its doubts.

:func:`quick` is what every passing check gets; :func:`measure` is the engine under it and under ``harness bench``.
"""

from __future__ import annotations

from harness.latency.figure import Latency, latency, quick
from harness.latency.sampling import Effort, Measurement, Series, Timer, measure
from harness.latency.statistics import Ratio, Summary, paired_ratio, summarise

__all__ = [
    "Effort",
    "Latency",
    "Measurement",
    "Ratio",
    "Series",
    "Summary",
    "Timer",
    "latency",
    "measure",
    "paired_ratio",
    "quick",
    "summarise",
]
