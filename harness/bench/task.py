"""What one fresh process is asked to measure, and what it gives back: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.bench.settings import BenchSettings
from harness.latency.sampling import Measurement
from harness.spec.case import Case
from harness.spec.target import Target
from harness.verify.settings import Settings


@dataclass(frozen=True, slots=True)
class Task:
    """One case at one set of shapes on all targets where it verifies; ``turn`` numbers the processes from 0.

    ``scratch`` is a folder that the run removes, ``home`` the one that a factory's module is looked for in.
    """

    case: Case
    targets: tuple[Target, ...]
    turn: int
    bench: BenchSettings
    settings: Settings
    scratch: Path
    home: Path


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a target's session says of itself, and how long it took to come to a first answer in this process.

    ``device_us`` are single runs by the device's own clock, where it has one.
    """

    facts: Mapping[str, Any]
    load_s: float
    first_run_s: float
    device_us: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What one process measured: series by the names of :mod:`harness.bench.names`, and what it loaded, by target.

    ``troubles`` are, by target, why there is nothing of it.
    """

    measurement: Measurement
    loaded: Mapping[str, Loaded]
    troubles: Mapping[str, str] = field(default_factory=dict)
