"""How processes end: the exit code in words, and the processes that a check started, which are killed after it.

A check's processes are killed in whatever session they are and whoever started them. A worker is a subreaper: it adopts
the children of its children, so none is lost while the worker lives. For the case that the worker itself is killed,
each process below it carries the worker's process id in a resource limit that Linux keeps, passes on to every child,
and does not use (the number of file locks).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from harness.forked import FORKED_EXIT_CODE

SERVER_LOST = 256
"""Not an exit code of a process: the server that started it is gone, and only the server could read its exit code."""

CANNOT_LOAD = 1
"""The exit code of a server that could not load the libraries."""
REASON_MARK = "\0"
"""Stands before the line that the server writes for the run, after everything that was printed in the server."""


def describe_exit(code: int) -> str:
    """Describe an exit code in one line; it is negative for a signal."""
    if code == SERVER_LOST:
        return "the server that starts the workers was killed while this check ran"
    if code >= 0:
        return f"the process ended with exit code {code}"
    try:
        return f"the process was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"the process was killed by signal {-code}"


def killed_note(count: int) -> tuple[str, ...]:
    """The note of a row whose check left so many processes, which were killed; none for 0."""
    if not count:
        return ()
    processes = "1 process" if count == 1 else f"{count} processes"
    return (f"{processes} started by the check {'was' if count == 1 else 'were'} killed after it",)


def has_ended(pid: int) -> bool:
    """True where no process of that id runs; one that nobody has asked for its exit code counts as ended."""
    try:
        return psutil.Process(pid).status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return True


# A worker's descendants

PR_SET_CHILD_SUBREAPER = 36
RLIMIT_LOCKS = 10
WAIT_ALL = 0x40000000
"""For ``waitid``: children of every kind (``__WALL``)."""
LOCKS_LIMIT = b"Max file locks"
"""The line of ``/proc/PID/limits`` that holds the worker's process id."""
LIBRARY_PROCESSES = ("multiprocessing.resource_tracker", "torch/_inductor/compile_worker")
"""Helper processes that libraries keep and end by themselves, by a part of their command line."""
KILL_TIMEOUT, KILL_PAUSE = 5.0, 0.002


def become_subreaper() -> None:
    """Mark every process started from here on with this process's id, and adopt it when its parent ends.

    This process also leaves the run's process group, so that a signal which code under test sends to its own group does
    not end the run.
    """
    with suppress(OSError):
        os.setpgid(0, 0)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with suppress(ValueError, OSError):
        resource.setrlimit(RLIMIT_LOCKS, (os.getpid(), resource.getrlimit(RLIMIT_LOCKS)[1]))


def has_children() -> bool:
    """True where this process has children, including ended ones; fast enough to call after each check."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | WAIT_ALL)
    except ChildProcessError:
        return False
    return True


def kill_children() -> int:
    """Kill all processes below this one except those that libraries keep; return how many there were.

    A child that came back into harness after a fork, and was ended for that, counts as one of them. If there were any,
    this process must run no further check.
    """

    def below() -> Iterator[psutil.Process]:
        children = psutil.Process().children(recursive=True)
        came_back.update(process.pid for process in children if _came_back(process.pid))
        return (process for process in children if not _is_of_a_library(process))

    # A library may have set a handler for the end of its processes that raises an exception here.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    came_back: set[int] = set()
    return len(_kill_all(below) | came_back)


def kill_descendants_of(worker: int) -> int:
    """Kill all processes that the ended process ``worker``, or one below it, had started; return how many."""
    return len(_kill_all(lambda: map(psutil.Process, _marked_with(worker))))


def _kill_all(processes: Callable[[], Iterator[psutil.Process]]) -> set[int]:
    """Kill what ``processes`` returns until none of it lives: a process may start others meanwhile."""
    killed: set[int] = set()
    until = time.monotonic() + KILL_TIMEOUT
    while time.monotonic() < until:
        living = set()
        with suppress(psutil.NoSuchProcess):
            for process in processes():
                with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    if process.status() != psutil.STATUS_ZOMBIE:
                        process.kill()
                        living.add(process.pid)
        if not living:
            break
        killed |= living
        time.sleep(KILL_PAUSE)
    return killed


def _marked_with(worker: int) -> Iterator[int]:
    """The processes that carry the id of ``worker``, without ``worker`` itself."""
    for pid in psutil.pids():
        with suppress(OSError):
            limits = Path(f"/proc/{pid}/limits").read_bytes()
            if pid != worker and limits.partition(LOCKS_LIMIT)[2].split(maxsplit=1)[:1] == [b"%d" % worker]:
                yield pid


def _came_back(pid: int) -> bool:
    """True for a child that harness ended because it came back from the code that had forked it."""
    try:
        exit_info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT | WAIT_ALL)
    except ChildProcessError:  # the child of a child
        return False
    return exit_info is not None and exit_info.si_code == os.CLD_EXITED and exit_info.si_status == FORKED_EXIT_CODE


def _is_of_a_library(process: psutil.Process) -> bool:
    try:
        return any(name in " ".join(process.cmdline()) for name in LIBRARY_PROCESSES)
    except psutil.Error:
        return False


# The server

EXITING = 0x4
"""The kernel's flag of a process that is about to end (``PF_EXITING``)."""


def wait_if_server_ended(server: int) -> None:
    """Return at once while the process ``server``, which started this one, goes on; otherwise wait to be killed.

    Where the server was killed, the kernel ends this process a moment later. Until then it must not go on to something
    that is no part of the check which killed the server.
    """
    while os.getppid() != server or _is_ending(server):
        time.sleep(0.01)


def _is_ending(pid: int) -> bool:
    """True where the process was killed and the kernel has not finished with it; False where the system cannot tell."""
    with suppress(OSError, ValueError, IndexError):
        # After the name, which may contain anything: state, five numbers, flags; the pending signals come later.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        killed = int(fields[28]) >> (signal.SIGKILL - 1) & 1
        return fields[0] in "ZX" or bool(int(fields[6]) & EXITING) or bool(killed)
    return False
