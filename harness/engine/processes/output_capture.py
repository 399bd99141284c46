"""What libraries print, warn and log in a worker: kept with the check it belongs to, and off the terminal."""

from __future__ import annotations

import os
import re
import sys
import warnings
from functools import lru_cache
from pathlib import Path
from sysconfig import get_path
from typing import Any

from harness.check.cache.memo import CapturedOutput
from harness.forked import exit_if_forked

MAX_LINES, MAX_LINE_LENGTH = 30, 300
MAX_READ = 1 << 20
# The part of a line that is searched for folders, which takes the square of its length.
MAX_SEARCHED = 4 * MAX_LINE_LENGTH
MAX_FILE_SIZE = 16 << 20

# The place of code on this machine is of no use to a reader, and a report that travels should not reveal it.
_OWN_FOLDERS = "|".join(re.escape(f"{folder}/") for folder in (Path(__file__).parents[2], get_path("stdlib")))
_CODE_FOLDERS = re.compile(rf"\S*/site-packages/|{_OWN_FOLDERS}")
# Time stamps, process ids and addresses, and torch's numbers of classes and of generated code: they differ from run to
# run.
_RUN_SPECIFIC = re.compile(
    r"(?<=^[IWEF])\d{4} [\d:.]+ +\d+(?= )|(?<=\b0x)[0-9a-fA-F]{6,}|\.___torch_mangle_\d+|(?<=<eval_with_key>)\.\d+"
)


def hide_warnings_of_imports() -> None:
    """Show no warning that a library raises while it is imported: only the first check of a process would have it."""
    show = warnings.showwarning

    def show_unless_importing(*arguments: Any, **named: Any) -> None:
        if not _is_importing_library():
            show(*arguments, **named)

    warnings.showwarning = show_unless_importing


def _is_importing_library() -> bool:
    frame = sys._getframe()  # noqa: SLF001 - inspect.stack would read the source of each frame
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "<module>" and "site-packages" in frame.f_code.co_filename:
            return True
    return False


class OutputCapture:
    """A file that receives a worker's standard output and error, including those of C++ code, emptied check by check.

    The run opens the same file, to read what a dead worker left and to bound its size.
    """

    def __init__(self, path: Path) -> None:
        # Appending: the two streams, and children of a check, write behind one another and never over each other.
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self.process = os.getpid()

    def redirect(self) -> None:
        """Redirect standard output and error of this process into the file."""
        os.dup2(self._file, 1)
        os.dup2(self._file, 2)

    def drain(self) -> tuple[str, ...]:
        """Return what was printed since the last call, and empty the file."""
        if not self.size():  # as after most checks; emptying a file takes long even where it is empty
            return ()
        lines = self.read_from(0)
        os.ftruncate(self._file, 0)
        return lines

    def read_from(self, offset: int) -> tuple[str, ...]:
        """Return what was printed since the file had the size ``offset``, cut to a maximum length."""
        size = self.size()
        # Where the file was emptied meanwhile because it was too large, it holds only what came last.
        begin = offset if offset <= size else 0
        return _lines(os.pread(self._file, min(MAX_READ, size - begin), begin)) if size > begin else ()

    def capturing(self) -> CaptureBlock:
        """A context that takes what is printed inside the block out of the file, and returns it at the end."""
        return CaptureBlock(self)

    def size(self) -> int:
        """The size of the file; ``lseek`` takes a fifth of the time of ``fstat``."""
        _flush()
        return os.lseek(self._file, 0, os.SEEK_END)

    def truncate(self, size: int) -> None:
        """Shorten the file to ``size``, if it is longer."""
        os.ftruncate(self._file, min(size, os.fstat(self._file).st_size))

    def write(self, lines: tuple[str, ...]) -> None:
        """Print ``lines``, as if a library had."""
        if lines:
            _flush()
            os.write(self._file, "".join(f"{line}\n" for line in lines).encode(errors="replace"))

    def limit_size(self) -> None:
        """Empty the file where it has become too large; the next line printed is at its beginning."""
        if os.fstat(self._file).st_size > MAX_FILE_SIZE:
            os.ftruncate(self._file, 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class CaptureBlock:
    """Collects what is printed while it is open. A class, since it is opened a dozen times per check."""

    def __init__(self, capture: OutputCapture) -> None:
        self._capture = capture

    def __enter__(self) -> CapturedOutput:
        self._size, self._output = self._capture.size(), CapturedOutput()
        return self._output

    def __exit__(self, *_: object) -> None:
        exit_if_forked(self._capture.process)
        self._output.lines = self._capture.read_from(self._size)
        if self._output.lines:
            self._capture.truncate(self._size)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:  # contextlib.suppress would take longer than the flush, eight times per check
            stream.flush()
        except (AttributeError, ValueError, OSError):  # a check may have closed it
            continue


def _lines(printed: bytes) -> tuple[str, ...]:
    """The first distinct lines."""
    text = printed.decode(errors="replace")
    cleaned = (_cleaned(line[:MAX_SEARCHED].rstrip()) for line in text.splitlines() if line.strip())
    lines = list(dict.fromkeys(line[:MAX_LINE_LENGTH] for line in cleaned))
    more = len(lines) - MAX_LINES
    return tuple(lines[:MAX_LINES]) + ((f"... and {more} more lines",) if more > 0 else ())


@lru_cache(maxsize=256)  # libraries print the same lines again and again
def _cleaned(line: str) -> str:
    return _RUN_SPECIFIC.sub("", _CODE_FOLDERS.sub("", line))
