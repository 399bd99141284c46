"""Thorough latency: verified checks are timed in fresh processes, at the case's own shapes and at its ``bench`` shapes.

:func:`with_shapes` returns what has to be verified first; :func:`time_all` adds the latency to the results.
"""

from __future__ import annotations

from harness.bench.settings import BenchSettings, parse_cpus, with_shapes
from harness.bench.timing import time_all

__all__ = ["BenchSettings", "parse_cpus", "time_all", "with_shapes"]
