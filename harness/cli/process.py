"""What a command prints, wherever its standard streams lead: closed, full or broken, they raise nothing.

SIGTERM and SIGHUP end a command as one Ctrl-C does; a second signal ends it at once.

The last door: what nobody expected, in one line that says that harness itself failed, and where the rest is.
"""

from __future__ import annotations

import errno
import io
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import click

from harness.errors import SIGNALLED, HarnessError, Interrupted
from harness.report.wording import printable, shortened

if TYPE_CHECKING:
    from typing_extensions import Self


STANDARD = ("stdin", "stdout", "stderr")


def say(text: str, *, error: bool = False, end: str = "\n") -> None:
    """Print ``text`` on standard output, or as an ``error``, without what a terminal would take for more than text."""
    click.echo(printable(text) + end, nl=False, err=error)


class Streams:
    """While it is open, writing to the process's own standard streams never fails; :meth:`failure` tells what did.

    A stream that somebody else has put in their place is left alone.
    """

    def __enter__(self) -> Self:
        _open_what_is_closed()
        self._before: dict[str, TextIO] = {}
        self._files: dict[str, _Unfailing] = {}
        for number, name in enumerate(STANDARD[1:], 1):
            stream: TextIO | None = getattr(sys, name)
            if stream is not None and _is_the_processes_own(stream, name, number):
                stream.flush()
                self._files[name] = _Unfailing(number)
                self._before[name] = stream
                setattr(sys, name, _text(self._files[name], stream))
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        for name, stream in self._before.items():
            getattr(sys, name).flush()
            setattr(sys, name, stream)

    def failure(self) -> OSError | None:
        """Why standard output did not take all of it; None where it did, or where its reader had enough and left."""
        sys.stdout.flush()
        error = self._files["stdout"].error if "stdout" in self._files else None
        return None if error is None or error.errno == errno.EPIPE else error


class _Unfailing(io.FileIO):
    """A file whose first failure is kept, and which takes everything after it for written."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.error: OSError | None = None

    def write(self, data: object) -> int:
        """Write all of ``data``, and wait for a slow reader also where the file is one that does not wait by itself."""
        block = memoryview(data).cast("B")  # type: ignore[arg-type]
        rest = block
        while rest and self.error is None:
            try:
                rest = rest[os.write(self.fileno(), rest) :]
            except BlockingIOError:
                select.select([], [self.fileno()], [])
            except OSError as error:
                self.error = error
        return len(block)


def _open_what_is_closed() -> None:
    """Give each closed standard stream the null device, lest the next file that is opened is printed into."""
    for number, name in enumerate(STANDARD):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free is this one
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - it stays open
            setattr(sys, f"__{name}__", getattr(sys, name))


def _is_the_processes_own(stream: TextIO, name: str, number: int) -> bool:
    with suppress(OSError, ValueError, AttributeError):
        return stream is getattr(sys, f"__{name}__") and stream.fileno() == number
    return False


def _text(file: _Unfailing, like: TextIO) -> TextIO:
    unbuffered = bool(getattr(like, "write_through", False))
    return io.TextIOWrapper(
        file if unbuffered else io.BufferedWriter(file),
        encoding=like.encoding,
        errors="backslashreplace",
        line_buffering=bool(getattr(like, "line_buffering", False)),
        write_through=unbuffered,
    )


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME = 0.3
"""Seconds in which further signals are the first one told again: ``timeout`` and a closing terminal send it twice."""


class Signals:
    """While it is open, the first of these signals raises :class:`Interrupted` in the main thread.

    A signal that is ignored, as ``nohup`` does with SIGHUP, or that somebody else answers, is left alone.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: dict[signal.Signals, Any] = {}
        self._at = 0.0
        self.received: signal.Signals | None = None

    def __enter__(self) -> Self:
        usual = (signal.SIG_DFL, signal.default_int_handler)
        for number in ENDING:
            if (before := signal.getsignal(number)) in usual:
                try:
                    signal.signal(number, self._answer)
                except ValueError:  # not in the main thread, where signals are not this command's
                    return self
                self._before[number] = before
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _answer(self, number: int, _frame: FrameType | None) -> None:
        now = self._clock()
        if self.received is None:
            self._at, self.received = now, signal.Signals(number)
            raise Interrupted(self.received)
        if now - self._at > SAME:
            os._exit(SIGNALLED + number)


LONGEST = 500
NO_FOLDER = "the working directory is gone; change to one that is there"
SHOW = "HARNESS_TRACEBACK"


def failure_line(error: BaseException) -> str:
    """One line for ``error``; its traceback is kept in a file, or printed where HARNESS_TRACEBACK asks for it."""
    if why := _refused_by_the_system(error):
        return why
    what = f"harness itself failed: {type(error).__name__}: {shortened(_message(error), LONGEST)}"
    return f"{what}; {_kept(error)}"


def _refused_by_the_system(error: BaseException) -> str | None:
    """What the system did not give, where that is all that happened."""
    import resource

    link: BaseException | None = error
    while link is not None:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        match link:
            case OSError(errno=errno.EMFILE):
                return (
                    f"at most {files} files may be open at once; raise it with ulimit -n, or take fewer workers with -j"
                )
            case OSError(errno=errno.ENFILE):
                return "the system has no more open files to give; close other programs"
            case BlockingIOError() | RuntimeError(args=("can't start new thread",)):
                return "no further process or thread may be started; raise ulimit -u, or the container's limit"
            case MemoryError() | OSError(errno=errno.ENOMEM):
                return "the system has no more memory to give; close other programs, or take fewer workers with -j"
            case OSError(errno=errno.ENOSPC | errno.EDQUOT):
                return f"{link.filename or 'a disk'}: {link.strerror}; make room"
            case FileNotFoundError() if not _in_a_folder():
                return NO_FOLDER
        link = link.__cause__
    return None


def require_working_directory() -> None:
    """Raises :class:`HarnessError` where the folder that the command was called in has been removed."""
    if not _in_a_folder():
        raise HarnessError(NO_FOLDER)


def _in_a_folder() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 - to see whether it can be told
    except OSError:
        return False
    return True


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as wrong:  # noqa: BLE001 - an exception that cannot say what it is about
        return f"(its message cannot be had: {type(wrong).__name__})"


def _kept(error: BaseException) -> str:
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    if os.environ.get(SHOW):
        sys.stderr.write(text)
        return "its traceback stands above"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="harness-traceback-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(text)
    except OSError:
        return f"{SHOW}=1 shows its traceback"
    return f"its traceback is in {file.name}"
