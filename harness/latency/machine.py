"""The machine while it is measured: what else it does, and whether it slows down."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_THROTTLE = "devices/system/cpu/cpu*/thermal_throttle/core_throttle_count"


@dataclass(frozen=True, slots=True)
class MachineState:
    """The machine at one moment; None where the system does not tell.

    ``load`` is the load average of the last minute, ``cpus`` how many CPUs this process may use. ``preempted`` counts
    how often this process had to give way, ``throttled`` how often a core was slowed down for heat, both since start.
    """

    load: float | None = None
    preempted: int | None = None
    throttled: int | None = None
    cpus: int | None = None


def read_machine() -> MachineState:
    """What can be told in microseconds."""
    return MachineState(_load(), _preempted(), None, _cpus())


def read_machine_thoroughly() -> MachineState:
    """Also the cores' own counts of thermal throttling, one file each."""
    return MachineState(_load(), _preempted(), throttle_count(Path("/sys")), _cpus())


def throttle_count(system: Path) -> int | None:
    """The sum over all cores below ``system``, which is ``/sys`` on Linux; None where no core counts."""
    counts = [int(file.read_text(encoding="ascii")) for file in system.glob(_THROTTLE)]
    return sum(counts) if counts else None


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _preempted() -> int | None:
    try:
        import resource
    except ImportError:  # not a Unix
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _cpus() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
