"""Libraries chatter while they load; a worker has a file of its own for that, the fork server needs none."""

from __future__ import annotations

import os


def fall() -> None:
    """Let nothing that this process and its libraries print be seen."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
