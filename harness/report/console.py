"""Standard output: as wide as the terminal is, and as wide as it takes where there is none."""

from __future__ import annotations

import os
import sys

from rich.console import Console

UNFOLDED = 100_000


def standard_output() -> Console:
    """Where a summary is printed.

    In a pipe or a file each row is one line, for grep and awk; where COLUMNS says how wide, it is folded there too.
    """
    folded = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if folded else UNFOLDED)
