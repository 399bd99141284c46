"""How a process that a server started came to its end, in words."""

from __future__ import annotations

import signal

SERVER_LOST = 256
"""No exit code of a process: the server that started it is gone, and with it the one who would know its exit code."""

CANNOT_LOAD = 1
"""The exit code of a server that could not load what it should."""
MARK = "\0"
"""What stands before a line that the server writes down for the run, after all that was printed in it."""


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
