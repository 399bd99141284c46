"""Latency, thorough: what verifies is timed in fresh processes, at its own shapes and at those that ``bench`` names.

:func:`with_shapes` says what has to verify first; :func:`time_all` measures and puts the figures into the results.
"""

from __future__ import annotations

from harness.bench.settings import BenchSettings, parse_cpus, with_shapes
from harness.bench.timing import time_all

__all__ = ["BenchSettings", "parse_cpus", "time_all", "with_shapes"]
