"""The time and memory limits of one check, enforced by the kernel, and what the system must allow for a run.

The time limit is a timer whose signal keeps its default action, which ends the process even where a library holds the
interpreter's lock in an endless loop. The memory limit is the soft limit on private memory, so an allocation over it
fails inside the library that asked for it. Before processes are started, the ``require_...`` functions check that the
system allows enough threads, open files and semaphores.
"""

from __future__ import annotations

import ctypes
import resource
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path

import psutil

from harness.environment import usable_cpus
from harness.errors import HarnessError

TIMED_OUT = -signal.SIGALRM
PR_SET_PDEATHSIG = 1


@contextmanager
def limited(timeout: float | None, memory: int | None) -> Iterator[None]:
    """Run the block under both limits; ``timeout`` in seconds, ``memory`` in bytes beyond what is in use already.

    Changes that the block makes to the limits of its process are undone where possible.
    """
    before = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_DATA, resource.RLIMIT_FSIZE)}
    if memory is not None:
        hard = before[resource.RLIMIT_DATA][1]
        resource.setrlimit(resource.RLIMIT_DATA, (private_memory() + memory, hard))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, timeout or 0.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        for kind, limit in before.items():
            if resource.getrlimit(kind) != limit:
                with suppress(ValueError):  # the block has lowered a hard limit, which only root may raise
                    resource.setrlimit(kind, limit)


def extend_time_limit(seconds: float) -> None:
    """Give the block that runs under a time limit so many seconds more."""
    left, _ = signal.getitimer(signal.ITIMER_REAL)
    if left:
        signal.setitimer(signal.ITIMER_REAL, left + seconds)


def extend_memory_limit(size: int) -> None:
    """Give the block that runs under a memory limit so many bytes more, as far as its hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft != resource.RLIM_INFINITY:
        limit = soft + size if hard == resource.RLIM_INFINITY else min(soft + size, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def die_with_parent(by: signal.Signals = signal.SIGKILL) -> None:
    """Let the kernel end this process when its parent is gone, so that a killed run leaves no process.

    ``by`` is the signal. The kernel sends it as soon as the thread that started this process is gone, and once more for
    each thread that takes its place.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, by)


def die_first_for_memory() -> None:
    """Where the system runs out of memory and kills a process, let it be this one and not the run."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def private_memory() -> int:
    """The private memory of this process in bytes, as RLIMIT_DATA counts it."""
    return int(psutil.Process().memory_info().data)


# Signals

RUN_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
"""The signals that only the run itself handles."""


@contextmanager
def blocked(signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Block ``signals`` in the block; a process that is started inside begins with them blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# Requirements of a run

FILES_OF_RUN = 48
"""The most files that a run opens at once, besides those of the workers; measured, with some to spare."""
FILES_PER_WORKER = 8
THREADS_OF_RUN = 6
"""The threads and processes of a run with one worker."""


def require_files(workers: int) -> None:
    """Raise the limit on open files to what ``workers`` need, as far as the hard limit allows.

    Raises :class:`HarnessError` where it does not.
    """
    needed = FILES_OF_RUN + FILES_PER_WORKER * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < needed:
        if resource.RLIM_INFINITY != hard < needed:
            fewer = ", or use fewer workers with -j" if hard >= FILES_OF_RUN + FILES_PER_WORKER else ""
            fix = f"raise it with ulimit -n {needed}{fewer}"
            counted = f"{workers} workers need" if workers > 1 else "at least"
            raise HarnessError(f"at most {hard} files may be open at once (ulimit -n), and {counted} {needed}; {fix}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def require_threads() -> None:
    """Raises :class:`HarnessError` where one thread for each CPU, plus those of a run, cannot be started.

    The libraries start that many. Where they cannot, one raises SIGINT and another ends the process with exit code 1.
    """
    over = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(usable_cpus() + THREADS_OF_RUN):
            thread = threading.Thread(target=over.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        fix = "raise ulimit -u, or the container's limit of processes"
        raise HarnessError(f"only {len(started)} more processes or threads may be started here; {fix}") from error
    finally:
        over.set()
        for thread in started:
            thread.join()


def require_semaphores() -> None:
    """Raises :class:`HarnessError` where no semaphore can be made, which workers need.

    The first semaphore starts multiprocessing's resource tracker, which must not end when the terminal closes.
    """
    try:
        with blocked({signal.SIGHUP}):
            get_context("forkserver").Lock()
    except (ImportError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        fix = "mount a tmpfs there that can be written, as docker run --shm-size does"
        raise HarnessError(f"workers need a semaphore, which /dev/shm does not hold: {reason}; {fix}") from error
