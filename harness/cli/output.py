"""What a command prints, wherever its standard streams lead: closed, full or broken, they raise nothing."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

import click

from harness.report.wording import printable

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
