"""How a process that a server started came to its end, in words."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

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
