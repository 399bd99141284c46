"""How long a call takes: sampled in turns with what it is compared with, and told with its doubts.

:func:`quick` is what every passing check gets; :func:`measure` is the engine under it and under ``harness bench``.
"""

from __future__ import annotations

from harness.latency.figure import Latency, latency
from harness.latency.quick import quick
from harness.latency.ratio import Ratio, paired_ratio
from harness.latency.sampling import Effort, Measurement, Series, measure
from harness.latency.statistics import Summary, summarise
from harness.latency.timer import Timer

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
