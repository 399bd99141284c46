"""The machine while it is measured: what else it does, and whether it slows down."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path

import psutil

_THROTTLE = "devices/system/cpu/cpu*/thermal_throttle/core_throttle_count"


@dataclass(frozen=True, slots=True)
class MachineState:
    """The machine at one moment; None where the system does not tell.

    ``load`` is the load average of the last minute, ``cpus`` how many CPUs this process may use. ``preempted`` counts
    how often this process had to give way, ``throttled`` how often a core was slowed down for heat, both since start.
    ``stolen_s`` are the seconds that a hypervisor gave to other machines, ``mhz`` is the mean frequency of the cores.
    """

    load: float | None = None
    preempted: int | None = None
    throttled: int | None = None
    cpus: int | None = None
    stolen_s: float | None = None
    mhz: float | None = None


def read_machine() -> MachineState:
    """What can be told in microseconds."""
    return MachineState(load=_load(), preempted=preemptions(), cpus=_cpus())


def read_machine_thoroughly() -> MachineState:
    """Also what takes a file for each core: thermal throttling, frequencies, time stolen."""
    return MachineState(_load(), preemptions(), throttle_count(Path("/sys")), _cpus(), _stolen(), _mhz())


def preemptions() -> int:
    """How often the system took the CPU from this process, all of its threads together."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def throttle_count(system: Path) -> int | None:
    """The sum over all cores below ``system``, which is ``/sys`` on Linux; None where no core counts."""
    counts = [int(file.read_text(encoding="ascii")) for file in system.glob(_THROTTLE)]
    return sum(counts) if counts else None


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _cpus() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _stolen() -> float | None:
    return getattr(psutil.cpu_times(), "steal", None)


def _mhz() -> float | None:
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    return None if frequency is None else frequency.current or None
