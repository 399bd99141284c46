"""Everything harness raises on purpose.

    HarnessError
    ├── RequestError            the request is wrong: exit code 2
    │   ├── SpecError           one or more problems in files the user wrote
    │   └── UsageError          the command line asks for something that cannot be
    ├── RuntimeMissing          a required runtime, or system, is not what is here: exit code 3
    ├── DiskFull                  the disk takes no more, so that the run cannot go on: exit code 3
    └── StageError              one check could not finish a stage; it becomes a row, never a traceback
        ├── Unsupported         the exporter or runtime says that it does not do this
        ├── Unavailable         what the target needs is not on this machine
        └── OutOfMemory         the stage asked for more memory than it may have
    Interrupted, a KeyboardInterrupt: a signal asked the command to end: exit code 128 + its number

Every message is one line in two halves: what is wrong; what would be right. However long the text is that a file or a
command line put into it, the line stays short, and nothing in it moves a terminal's cursor or colours.

What an exception says and what it was raised from, whatever its class makes of ``str()`` and of its own fields.

An exception of a user's code may raise where it is asked for its text, be 50 MB long or be chained in a ring. So its
fields are read as Python keeps them, and never more of its text than a bound.
"""

from __future__ import annotations

import inspect
import os
import re
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import CodeType, TracebackType
from typing import ClassVar, Literal
from unicodedata import category

LONGEST_HALF = 600
"""Characters of each half of a problem, and of each quarter of any other line."""


def one_line(text: str, most: int = 4 * LONGEST_HALF) -> str:
    """``text`` on one line of about ``most`` characters, in which what cannot be printed stands as its escape.

    Of what is too long the beginning and the end are kept, which say what it is and what is wrong with it.
    """
    text = _cut(text, most)
    return text if text.isprintable() else "".join(map(_as_escape, text))


def _cut(text: str, most: int) -> str:
    tail = most // 4
    return text if len(text) <= most else f"{text[: most - tail]}... ({len(text):,} characters) ...{text[-tail:]}"


def _as_escape(character: str) -> str:
    """The character, or what Python would write for it; spaces of other scripts are left."""
    if character.isprintable() or (character.isspace() and category(character) == "Zs"):
        return character
    return character.encode("unicode_escape").decode("ascii")


_ESCAPE = re.compile(rb"\\(?:(\\)|x([0-9a-f]{2}))")


def told(path: Path | str) -> str:
    r"""A path as text that can be written anywhere, and read back by :func:`path_of`.

    A byte that is not UTF-8 stands as its escape, ``\\xff``, and so do the bytes of a character that cannot be printed,
    such as a line end; a backslash is doubled. Under a locale such as C, Python reads other letters as bytes; the path
    is told the same there.
    """
    text = os.fsencode(path).decode("utf-8", "surrogateescape")
    return "".join(char if char.isprintable() and char != "\\" else _escaped_bytes(char) for char in text)


def path_of(text: str) -> str:
    """The path that :func:`told` gave ``text`` for."""
    raw = _ESCAPE.sub(lambda found: found[1] or bytes.fromhex(found[2].decode()), text.encode("utf-8", "replace"))
    return os.fsdecode(raw)


def _escaped_bytes(char: str) -> str:
    if char == "\\":
        return "\\\\"
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A place in a file; ``line`` and ``column`` count from 1, as editors do."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{one_line(self.file)}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in a file: where, what, and what would be right."""

    where: Location
    wrong: str
    right: str = ""

    def __str__(self) -> str:
        halves = (half for half in (self.wrong, self.right) if half)
        return f"{self.where}: {'; '.join(map(_half, halves))}"


def _half(text: str) -> str:
    """One half of a problem; it is cut before it is looked at, since it may hold megabytes."""
    return one_line(" ".join(_cut(text, LONGEST_HALF).split()))


def reason(error: BaseException) -> str:
    """``error`` in one line; one that harness did not raise, with its type and the place that raised it."""
    said = " ".join(str(error).split())
    if isinstance(error, HarnessError):
        return said
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    place = "" if at is None else f" ({at.tb_frame.f_code.co_filename}, line {at.tb_lineno})"
    return f"{type(error).__name__}: {said}{place}" if said else f"{type(error).__name__}{place}"


SIGNALLED = 128
"""A command that a signal ended leaves with this and the number of the signal, as shells say it: 130 for Ctrl-C."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the command to end, as Ctrl-C does; ``by`` says which one."""

    def __init__(self, by: signal.Signals) -> None:
        super().__init__(by.name)
        self.by = by


def interrupted_by(error: KeyboardInterrupt) -> signal.Signals:
    """The signal behind ``error``; SIGINT, which is Ctrl-C, where it does not say."""
    return error.by if isinstance(error, Interrupted) else signal.SIGINT


class HarnessError(Exception):
    """The root: catch this to catch everything harness raises on purpose."""

    exit_code: ClassVar[int] = 3


class RequestError(HarnessError):
    """What was asked for cannot be done as it is written."""

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class SpecError(RequestError):
    """One or more problems in the user's files, all of them at once, in reading order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        Exception.__init__(self, "\n".join(map(str, self.problems)))


@contextmanager
def collecting(problems: list[Problem]) -> Iterator[None]:
    """Goes on after a :class:`SpecError`, and remembers what it said."""
    try:
        yield
    except SpecError as error:
        problems += error.problems


class UsageError(RequestError):
    """The command line, or a call of the Python API, is wrong."""


class RuntimeMissing(HarnessError):
    """A runtime named by ``--require`` is not on this machine, or the system itself is one that no check runs on."""


class DiskFull(HarnessError):
    """A folder that harness writes to is full, or cannot be written: no fault of a model, so no row says it."""


class StageError(HarnessError):
    """A stage of one check could not finish, for a reason harness knows by name.

    ``symptom`` is the contract's word for it. ``of_library`` is True where a library said it and harness passes it on.
    """

    symptom: ClassVar[Literal["exception", "unsupported", "unavailable", "out-of-memory"]] = "exception"

    def __init__(self, message: str, *, of_library: bool = False) -> None:
        super().__init__(message)
        self.of_library = of_library


class Unsupported(StageError):
    """The exporter or the runtime does not do this, and says so."""

    symptom = "unsupported"


class Unavailable(StageError):
    """What the target needs is not on this machine; the message says what would bring it."""

    symptom = "unavailable"


class OutOfMemory(StageError):
    """The stage asked for more memory than the check may have."""

    symptom = "out-of-memory"


FARTHEST = 20
MOST_READ = 1 << 16
"""So many characters of a text are looked at; no library says what it has to say later than that."""

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_NAME, _MODULE = (vars(type)[name] for name in ("__name__", "__module__"))
_CAUSE, _CONTEXT, _TRACEBACK = (vars(BaseException)[name] for name in ("__cause__", "__context__", "__traceback__"))


def causes(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what caused it, the nearest first; exceptions may be chained in a ring, so not for ever."""
    link: BaseException | None = error
    for _ in range(FARTHEST):
        if link is None:
            return
        yield link
        cause, context = cause_of(link), _CONTEXT.__get__(link)
        link = context if cause is None else cause


def cause_of(error: BaseException) -> BaseException | None:
    """What ``error`` was raised from, where the code that raised it says so."""
    cause: BaseException | None = _CAUSE.__get__(error)
    return cause


def text_of(value: object) -> str:
    """``str(value)``, of any length; where that raises, words that say so."""
    try:
        return str.__str__(str(value))
    except BaseException as raised:
        if is_from_outside(raised):
            raise
        return f"no message, since str() of it raises {kind_of(raised)}"


def read(value: object) -> str:
    """As much of :func:`text_of` as is ever looked at."""
    return text_of(value)[:MOST_READ]


def kind_of(error: BaseException) -> str:
    """The name of the class of ``error``, on one line of a bounded length."""
    name: str = _NAME.__get__(type(error))
    return printable(" ".join(name.split())[:100]) or "an exception without a name"


def printable(text: str) -> str:
    """``text`` with an escape for what a terminal would obey, and for what cannot be written as UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode().translate(_CONTROLS)


def module_of(error: BaseException) -> str:
    """The module that the class of ``error`` says it is from; empty where it says nothing."""
    with suppress(AttributeError):
        module: object = _MODULE.__get__(type(error))
        if type(module) is str:
            return module
    return ""


def is_from_outside(error: BaseException) -> bool:
    """True where a signal handler of this process raised ``error``: a Ctrl-C, or a limit that the caller has set.

    That is told for what is no ``Exception``: those pass through the code that they interrupt, which ``error`` is not
    about. Python's own handler of Ctrl-C leaves no trace; see :func:`harness.check.in_memory.check_given`.
    """
    if issubclass(type(error), Exception):
        return False
    handlers = {code for number in signal.valid_signals() if (code := _code_of(signal.getsignal(number)))}
    frame: TracebackType | None = _TRACEBACK.__get__(error)
    while frame is not None:
        if frame.tb_frame.f_code in handlers:
            return True
        frame = frame.tb_next
    return False


def _code_of(handler: object) -> CodeType | None:
    """The code of a handler that is written in Python."""
    while isinstance(handler, partial):
        handler = handler.func
    if not inspect.isroutine(handler):
        handler = vars(type(handler)).get("__call__")
    code = getattr(handler, "__code__", None)
    return code if isinstance(code, CodeType) else None
