"""What the system must allow before processes are started: open files, and the semaphores that workers share."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context

from harness.errors import HarnessError

FILES = 48
"""So many files are open at once at most, besides those of the workers; measured, with some to spare."""
FILES_A_WORKER = 8


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
