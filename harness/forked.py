"""Ends a process that the code under test forked and that returns into harness's own code.

Such a process must not continue harness's work.
"""

from __future__ import annotations

import os

FORKED_EXIT_CODE = 87
"""The exit code of a forked process that was ended here."""


def exit_if_forked(owner_pid: int) -> None:
    """End this process at once if its id is not ``owner_pid``, the process that began the work.

    Nothing is cleaned up: the open files and folders belong to the owner.
    """
    if os.getpid() != owner_pid:
        os._exit(FORKED_EXIT_CODE)
