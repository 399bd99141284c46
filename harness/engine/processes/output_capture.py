"""What libraries print, warn and log is kept with the check it belongs to, and off the terminal."""

from __future__ import annotations

import os
import re
import sys
from functools import lru_cache
from pathlib import Path
from sysconfig import get_path

from harness.check.memo import CapturedOutput
from harness.forked import end_if_forked

MOST_LINES, MOST_CHARACTERS = 30, 300
# Where code lies on this machine is no news, and a report that travels should not tell.
HERE = "|".join(re.escape(f"{folder}/") for folder in (Path(__file__).parents[2], get_path("stdlib")))
OF_PACKAGES = re.compile(rf"\S*/site-packages/|{HERE}")
# When, in which process and where in memory: nothing that would be the same another time.
OF_THE_MOMENT = re.compile(r"(?<=^[IWEF])\d{4} [\d:.]+ +\d+(?= )|(?<=\b0x)[0-9a-fA-F]{6,}")
MOST_READ = 1 << 20
# Of one line: to look for folders takes the square of it.
MOST_LOOKED_AT = 4 * MOST_CHARACTERS
MOST_KEPT = 16 << 20


class OutputCapture:
    """A file that takes a worker's standard output and error, also those of C++ code, and is emptied check by check.

    The run opens the same file, to read what a dead worker left and to keep a flood within bounds.
    """

    def __init__(self, path: Path) -> None:
        # Appending: the two streams, and children of a check, write behind one another and never over.
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self.process = os.getpid()

    def swallow(self) -> None:
        """From now on this file is where this process prints."""
        os.dup2(self._file, 1)
        os.dup2(self._file, 2)

    def take(self) -> tuple[str, ...]:
        """What was printed since the last call."""
        if not self.size():  # as after most checks; to empty a file takes long even where nothing is in it
            return ()
        lines = self.since(0)
        os.ftruncate(self._file, 0)
        return lines

    def since(self, size: int) -> tuple[str, ...]:
        """What was printed since the file had that size; a library that went on and on is cut short."""
        printed = self.size()
        # Where a flood was cut short meanwhile, what there is is what came last.
        begin = size if size <= printed else 0
        return _lines(os.pread(self._file, min(MOST_READ, printed - begin), begin)) if printed > begin else ()

    def listening(self) -> Listening:
        """Take what is printed inside the block out of the file, and tell it in the end."""
        return Listening(self)

    def size(self) -> int:
        """How much the file holds; where it ends is told in a fifth of the time that all about it is."""
        _flush()
        return os.lseek(self._file, 0, os.SEEK_END)

    def shorten(self, size: int) -> None:
        """Leave no more in the file than ``size``."""
        os.ftruncate(self._file, min(size, os.fstat(self._file).st_size))

    def say(self, lines: tuple[str, ...]) -> None:
        """Print ``lines``, as if a library had."""
        if lines:
            _flush()
            os.write(self._file, "".join(f"{line}\n" for line in lines).encode(errors="replace"))

    def bound(self) -> None:
        """Empty the file where it has grown beyond all reason; what is printed next stands at its beginning."""
        if os.fstat(self._file).st_size > MOST_KEPT:
            os.ftruncate(self._file, 0)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)


class Listening:
    """Hears what is printed while it is open. A class, since it is opened a dozen times a check."""

    def __init__(self, capture: OutputCapture) -> None:
        self._chatter = capture

    def __enter__(self) -> CapturedOutput:
        self._size, self._heard = self._chatter.size(), CapturedOutput()
        return self._heard

    def __exit__(self, *_: object) -> None:
        end_if_forked(self._chatter.process)
        self._heard.lines = self._chatter.since(self._size)
        if self._heard.lines:
            self._chatter.shorten(self._size)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:  # contextlib.suppress would take longer than the flush, eight times a check
            stream.flush()
        except (AttributeError, ValueError, OSError):  # a check may have closed it
            continue


def _lines(printed: bytes) -> tuple[str, ...]:
    """The distinct lines, the first of them."""
    text = printed.decode(errors="replace")
    said = (_told(line[:MOST_LOOKED_AT].rstrip()) for line in text.splitlines() if line.strip())
    lines = list(dict.fromkeys(line[:MOST_CHARACTERS] for line in said))
    more = len(lines) - MOST_LINES
    return tuple(lines[:MOST_LINES]) + ((f"... and {more} more lines",) if more > 0 else ())


@lru_cache(maxsize=256)  # libraries say the same again and again
def _told(line: str) -> str:
    return OF_THE_MOMENT.sub("", OF_PACKAGES.sub("", line))
