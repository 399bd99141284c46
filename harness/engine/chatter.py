"""What libraries print, warn and log is kept with the check it belongs to, and off the terminal."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

MOST_LINES, MOST_CHARACTERS = 30, 300
# Where a package lies on this machine is no news, and a report that travels should not tell.
OF_PACKAGES = re.compile(rf"\S*/site-packages/|{re.escape(str(Path(__file__).parents[2]))}/")


class Chatter:
    """Turns a worker's standard output and error, also those of C++ code, into a file that is read check by check."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"chatter-{os.getpid()}"
        self.offset = 0
        # Appending: the two streams, and children of a check, write behind one another and never over.
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)

    def take(self) -> tuple[str, ...]:
        """What was written since the last call."""
        sys.stdout.flush()
        sys.stderr.flush()
        lines, self.offset = chatter_since(self.path, self.offset), self.path.stat().st_size
        return lines


def chatter_since(path: Path, offset: int) -> tuple[str, ...]:
    """The distinct lines of the file from ``offset`` on, shortened where a library went on and on."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            text = file.read(1 << 20).decode(errors="replace")
    except FileNotFoundError:
        return ()
    said = (OF_PACKAGES.sub("", line.rstrip())[:MOST_CHARACTERS] for line in text.splitlines() if line.strip())
    lines = list(dict.fromkeys(said))
    more = len(lines) - MOST_LINES
    return tuple(lines[:MOST_LINES]) + ((f"... and {more} more lines",) if more > 0 else ())
