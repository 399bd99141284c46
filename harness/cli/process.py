"""The process of a command: its standard streams, its signals, and the line for a bug.

- Printing never fails, whether the standard streams are closed, full or broken (:class:`Streams`).
- SIGTERM and SIGHUP end a command as one Ctrl-C does; a second signal ends it at once (:class:`Signals`).
- An unexpected exception becomes one line that names harness and the file with the traceback (:func:`failure_line`).
"""

from __future__ import annotations

import errno
import io
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import click

from harness.errors import SIGNAL_EXIT_BASE, HarnessError, Interrupted, printable, shortened

if TYPE_CHECKING:
    from typing_extensions import Self


# Standard streams

STANDARD_STREAMS = ("stdin", "stdout", "stderr")


def tell_unmatched(keywords: Iterable[str]) -> None:
    """Print on standard error each of the ``keywords``, which match no case while others do."""
    for keyword in keywords:
        echo(f"-k {keyword}: matches no case; harness list shows the ids", error=True)


def echo(text: str, *, error: bool = False, end: str = "\n") -> None:
    """Print ``text`` on standard output, or on standard error, with control characters escaped."""
    click.echo(printable(text) + end, nl=False, err=error)


class Streams:
    """While this context is open, writing to the process's own standard streams never fails.

    :meth:`failure` returns the error of standard output. Streams that somebody else has put in place are left alone.
    """

    def __enter__(self) -> Self:
        _open_closed_streams()
        self._before: dict[str, TextIO] = {}
        self._files: dict[str, _NeverFailing] = {}
        for number, name in enumerate(STANDARD_STREAMS[1:], 1):
            stream: TextIO | None = getattr(sys, name)
            if stream is not None and _is_own_stream(stream, name, number):
                stream.flush()
                self._files[name] = _NeverFailing(number)
                self._before[name] = stream
                setattr(sys, name, _as_text(self._files[name], stream))
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        for name, stream in self._before.items():
            getattr(sys, name).flush()
            setattr(sys, name, stream)

    def failure(self) -> OSError | None:
        """Why standard output did not take everything; None if it did, or if its reader closed the pipe."""
        sys.stdout.flush()
        error = self._files["stdout"].error if "stdout" in self._files else None
        return None if error is None or error.errno == errno.EPIPE else error


class _NeverFailing(io.FileIO):
    """A file that keeps its first error, and then takes everything as written."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.error: OSError | None = None

    def write(self, data: object) -> int:
        """Write all of ``data``; wait for a slow reader even if the file is non-blocking."""
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


def _open_closed_streams() -> None:
    """Open the null device for each closed standard stream, so that no file gets its number and its output."""
    for number, name in enumerate(STANDARD_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - it stays open
            setattr(sys, f"__{name}__", getattr(sys, name))


def _is_own_stream(stream: TextIO, name: str, number: int) -> bool:
    with suppress(OSError, ValueError, AttributeError):
        return stream is getattr(sys, f"__{name}__") and stream.fileno() == number
    return False


def _as_text(file: _NeverFailing, like: TextIO) -> TextIO:
    unbuffered = bool(getattr(like, "write_through", False))
    return io.TextIOWrapper(
        file if unbuffered else io.BufferedWriter(file),
        encoding=like.encoding,
        errors="backslashreplace",
        line_buffering=bool(getattr(like, "line_buffering", False)),
        write_through=unbuffered,
    )


# Signals

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_SIGNAL_S = 0.3
"""Seconds in which a further signal counts as the first one: ``timeout`` and a closing terminal send it twice."""


class Signals:
    """While this context is open, the first of these signals raises :class:`Interrupted` in the main thread.

    A signal that is ignored, as ``nohup`` does with SIGHUP, or that has another handler, is left alone.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: dict[signal.Signals, Any] = {}
        self._received_at = 0.0
        self.received: signal.Signals | None = None

    def __enter__(self) -> Self:
        Interrupted.latest = None
        default_handlers = (signal.SIG_DFL, signal.default_int_handler)
        for number in ENDING_SIGNALS:
            if (before := signal.getsignal(number)) in default_handlers:
                try:
                    signal.signal(number, self._handle)
                except ValueError:  # not in the main thread, which alone handles signals
                    return self
                self._before[number] = before
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        now = self._clock()
        if self.received is None:
            self._received_at, self.received = now, signal.Signals(number)
            raise Interrupted(self.received)
        if now - self._received_at > SAME_SIGNAL_S:
            os._exit(SIGNAL_EXIT_BASE + number)


# Failures

MAX_MESSAGE = 500
NO_WORKING_DIRECTORY = "the working directory does not exist any more; change to another one"
TRACEBACK_VARIABLE = "HARNESS_TRACEBACK"


def require_working_directory() -> None:
    """Raise :class:`HarnessError` if the working directory has been removed."""
    if not _has_working_directory():
        raise HarnessError(NO_WORKING_DIRECTORY)


def _has_working_directory() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 - to see whether it raises
    except OSError:
        return False
    return True


def failure_line(error: BaseException) -> str:
    """One line for ``error``. Its traceback is written to a file, or printed if HARNESS_TRACEBACK is set."""
    if line := _system_limit(error):
        return line
    failure = f"harness itself failed: {type(error).__name__}: {shortened(_message(error), MAX_MESSAGE)}"
    return f"{failure}; {_keep_traceback(error)}"


def _system_limit(error: BaseException) -> str | None:
    """The limit of the operating system that caused ``error``; None if none did."""
    import resource

    link: BaseException | None = error
    while link is not None:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        match link:
            case OSError(errno=errno.EMFILE):
                return f"at most {files} files may be open at once; raise it with ulimit -n, or use fewer workers (-j)"
            case OSError(errno=errno.ENFILE):
                return "the system has no more open files; close other programs"
            case BlockingIOError() | RuntimeError(args=("can't start new thread",)):
                return "no further process or thread can be started; raise ulimit -u, or the limit of the container"
            case MemoryError() | OSError(errno=errno.ENOMEM):
                return "the system has no more memory; close other programs, or use fewer workers (-j)"
            case OSError(errno=errno.ENOSPC | errno.EDQUOT):
                return f"{link.filename or 'a disk'}: {link.strerror}; make room"
            case FileNotFoundError() if not _has_working_directory():
                return NO_WORKING_DIRECTORY
        link = link.__cause__
    return None


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as raised:  # noqa: BLE001 - an exception whose own text cannot be made
        return f"(its message cannot be read: {type(raised).__name__})"


def _keep_traceback(error: BaseException) -> str:
    """Write the traceback of ``error`` to a file or to standard error, and return where it is."""
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    if os.environ.get(TRACEBACK_VARIABLE):
        sys.stderr.write(text)
        return "see the traceback above"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="harness-traceback-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(text)
    except OSError:
        return f"set {TRACEBACK_VARIABLE}=1 to see the traceback"
    return f"the traceback is in {file.name}"
