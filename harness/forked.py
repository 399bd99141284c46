"""A process that the code under test forked and that comes back into harness: it must not do harness's work."""

from __future__ import annotations

import os

FORKED = 87
"""The exit code of such a process."""


def end_if_forked(process: int) -> None:
    """End this process where it is not ``process``, which began what ends here.

    Nothing is tidied up: what is open here is the other process's.
    """
    if os.getpid() != process:
        os._exit(FORKED)
