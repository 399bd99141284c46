"""The time and the memory that one check may take, enforced by the kernel.

The time limit is a timer whose signal is left at its default, which ends the process even where
a library holds the interpreter's lock in an endless loop. The memory limit is the soft limit on
private memory, so that an allocation over it fails inside the library that asked.
"""

from __future__ import annotations

import ctypes
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

TIMED_OUT = -signal.SIGALRM
PR_SET_PDEATHSIG = 1


@contextmanager
def limited(timeout: float | None, memory: int | None) -> Iterator[None]:
    """Run the block under both limits; ``timeout`` in seconds, ``memory`` in bytes beyond what is held already.

    What the block makes of the limits of its process is undone where that can be.
    """
    before = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_DATA, resource.RLIMIT_FSIZE)}
    if memory is not None:
        most = before[resource.RLIMIT_DATA][1]
        resource.setrlimit(resource.RLIMIT_DATA, (held_memory() + memory, most))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, timeout or 0.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        for kind, limit in before.items():
            if resource.getrlimit(kind) != limit:
                with suppress(ValueError):  # the block has lowered what only the system's owner may raise
                    resource.setrlimit(kind, limit)


def extend(seconds: float) -> None:
    """Give the block that runs under a time limit so many seconds more."""
    left, _ = signal.getitimer(signal.ITIMER_REAL)
    if left:
        signal.setitimer(signal.ITIMER_REAL, left + seconds)


def die_with_parent(by: signal.Signals = signal.SIGKILL) -> None:
    """Let the kernel end this process when the one that started it is gone, so that a killed run leaves nothing.

    ``by`` is the signal that it is ended with. The kernel sends it already when the thread is gone that started this
    process, and once more for each thread that takes its place.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, by)


def die_first_for_memory() -> None:
    """Where the system runs out of memory and ends a process, let it be this one and not the run."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def held_memory() -> int:
    """The private memory of this process in bytes: what RLIMIT_DATA counts."""
    return int(psutil.Process().memory_info().data)
