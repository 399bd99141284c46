"""What the system must allow before processes are started: threads, open files, and semaphores."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context

from harness.errors import HarnessError

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
