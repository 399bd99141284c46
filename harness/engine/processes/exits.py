"""How a process that a server started came to its end, in words.

The processes that a check started: they are ended with it, in whatever session they are and whoever started them.

A worker takes in the children of its children (it is their subreaper), so that none is lost while it lives. For when
it does not, each process below it bears its number: a resource limit that Linux keeps, hands on to every child and
does not use (the number of file locks).
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

from harness.forked import FORKED

SERVER_LOST = 256
"""No exit code of a process: the server that started it is gone, and with it the one who would know its exit code."""

CANNOT_LOAD = 1
"""The exit code of a server that could not load what it should."""
MARK = "\0"
"""What stands before a line that the server writes down for the run, after all that was printed in it."""

EXITING = 0x4
"""The kernel's flag of a process that is on its way out."""


def how(code: int) -> str:
    """One line of words for an exit code; it is negative for a signal."""
    if code == SERVER_LOST:
        return "the process that started its worker was killed while this check ran"
    if code >= 0:
        return f"the process ended itself with exit code {code}"
    try:
        return f"the process was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"the process was ended by signal {-code}"


def stay_with(server: int) -> None:
    """Return at once while the process ``server``, which started this one, goes on.

    Where it was killed, the kernel ends this process a moment later: by then it must not have gone on to something
    that was no part of it.
    """
    while os.getppid() != server or _is_ending(server):
        time.sleep(0.01)


def _is_ending(pid: int) -> bool:
    """True where it was killed and the kernel has not yet done with it; False where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        # After the name, which may hold anything: state, five numbers, flags; the signals that are pending come later.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        killed = int(fields[28]) >> (signal.SIGKILL - 1) & 1
        return fields[0] in "ZX" or bool(int(fields[6]) & EXITING) or bool(killed)
    return False


PR_SET_CHILD_SUBREAPER = 36
RLIMIT_LOCKS = 10
WALL = 0x40000000
"""For ``waitid``: children of every kind."""
IN_LIMITS = b"Max file locks"
OF_LIBRARIES = ("multiprocessing.resource_tracker", "torch/_inductor/compile_worker")
"""What libraries keep beside a process and end by themselves, by what stands in its command line."""
PATIENCE, PAUSE = 5.0, 0.002


def become_their_ancestor() -> None:
    """Let every process that is started from here on be found by this one's number, and by this one as its child.

    This process leaves the run's group, so that a signal which code under test sends to its own group ends no run.
    """
    with suppress(OSError):
        os.setpgid(0, 0)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with suppress(ValueError, OSError):
        resource.setrlimit(RLIMIT_LOCKS, (os.getpid(), resource.getrlimit(RLIMIT_LOCKS)[1]))


def has_children() -> bool:
    """True where this process has children, also ended ones; quick enough to be asked after each check."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | WALL)
    except ChildProcessError:
        return False
    return True


def end_children() -> int:
    """End all processes below this one but those that libraries keep; how many there were.

    Where there were some, this process is fit for no further check.

    One that had come back into harness after a fork, and was ended for it, is one of them.
    """

    def below() -> Iterator[psutil.Process]:
        found = psutil.Process().children(recursive=True)
        came_back.update(process.pid for process in found if _came_back(process.pid))
        return (process for process in found if not _is_of_a_library(process))

    # A library may have asked to be told of the end of its processes, and raise an exception here.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    came_back: set[int] = set()
    return len(_end_all(below) | came_back)


def end_those_of(worker: int) -> int:
    """End all processes that the process ``worker``, which is no more, or one below it had started; how many."""
    return len(_end_all(lambda: map(psutil.Process, _numbered(worker))))


def _end_all(processes: Callable[[], Iterator[psutil.Process]]) -> set[int]:
    """End what ``processes`` gives until it gives nothing that lives: a process may start others meanwhile."""
    ended: set[int] = set()
    until = time.monotonic() + PATIENCE
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
        ended |= living
        time.sleep(PAUSE)
    return ended


def _numbered(worker: int) -> Iterator[int]:
    """The processes that bear the number of ``worker``, but for itself."""
    for pid in psutil.pids():
        with suppress(OSError):
            limits = Path(f"/proc/{pid}/limits").read_bytes()
            if pid != worker and limits.partition(IN_LIMITS)[2].split(maxsplit=1)[:1] == [b"%d" % worker]:
                yield pid


def _came_back(pid: int) -> bool:
    """True for a child that harness ended since it came back from the code that had forked it."""
    try:
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT | WALL)
    except ChildProcessError:  # the child of a child
        return False
    return end is not None and end.si_code == os.CLD_EXITED and end.si_status == FORKED


def _is_of_a_library(process: psutil.Process) -> bool:
    try:
        return any(name in " ".join(process.cmdline()) for name in OF_LIBRARIES)
    except psutil.Error:
        return False


def told(ended: int) -> tuple[str, ...]:
    """What a row says of so many processes."""
    if not ended:
        return ()
    number = "1 process" if ended == 1 else f"{ended} processes"
    return (f"{number} that the check had started {'was' if ended == 1 else 'were'} ended with it",)
