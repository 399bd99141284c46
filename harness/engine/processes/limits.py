"""The time and the memory that one check may take, enforced by the kernel.

The time limit is a timer whose signal is left at its default, which ends the process even where
a library holds the interpreter's lock in an endless loop. The memory limit is the soft limit on
private memory, so that an allocation over it fails inside the library that asked.

What the system must allow before processes are started: threads, open files, and semaphores.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path

import psutil

from harness.errors import HarnessError

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


THE_RUNS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
"""The signals that only the run itself answers."""
FILES = 48
"""So many files are open at once at most, besides those of the workers; measured, with some to spare."""
FILES_A_WORKER = 8
THREADS = 6
"""So many threads and processes a run of one worker has itself."""


def require_files(workers: int) -> None:
    """Let so many files be open at once as ``workers`` need, as far as the hard limit allows.

    Raises :class:`HarnessError` where it does not.
    """
    needed = FILES + FILES_A_WORKER * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < needed:
        if resource.RLIM_INFINITY != hard < needed:
            fewer = ", or take fewer workers with -j" if hard >= FILES + FILES_A_WORKER else ""
            right = f"raise it with ulimit -n {needed}{fewer}"
            counted = f"{workers} workers need" if workers > 1 else "at least"
            raise HarnessError(f"at most {hard} files may be open at once (ulimit -n), and {counted} {needed}; {right}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def require_threads() -> None:
    """Raises :class:`HarnessError` where not even one thread for each CPU can be started, besides some for workers.

    The libraries start that many. Where they cannot, one raises SIGINT and another ends the process with exit code 1.
    """
    over = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(len(os.sched_getaffinity(0)) + THREADS):
            thread = threading.Thread(target=over.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        right = "raise ulimit -u, or the container's limit of processes"
        raise HarnessError(f"only {len(started)} more processes or threads may be started here; {right}") from error
    finally:
        over.set()
        for thread in started:
            thread.join()


@contextmanager
def blocked(signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Put ``signals`` off; a process that is started meanwhile begins with them blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def require_semaphores() -> None:
    """Raises :class:`HarnessError` where a semaphore cannot be made, which workers need.

    The first one starts multiprocessing's resource tracker, which is not to end with the terminal.
    """
    try:
        with blocked({signal.SIGHUP}):
            get_context("forkserver").Lock()
    except (ImportError, OSError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        right = "mount a tmpfs there that can be written, as docker run --shm-size does"
        raise HarnessError(f"workers need a semaphore, which /dev/shm does not hold: {said}; {right}") from error
