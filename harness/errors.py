r"""Every exception that harness raises on purpose, and the text that messages are made of.

    HarnessError
    ├── RequestError            the request is wrong: exit code 2
    │   ├── SpecError           one or more problems in the user's files
    │   │   └── Mistakes        one or more mistakes of a command line, or in the model that it names
    │   └── UsageError          the command line or a call of the Python API is wrong
    ├── RuntimeMissing          a required runtime or operating system is not available: exit code 3
    ├── DiskFull                a folder that harness writes to takes no more data: exit code 3
    └── StageError              one check could not finish a stage; it becomes a result, never a traceback
        ├── Unsupported         the exporter or runtime reports that it does not support this
        ├── Unavailable         this machine lacks something that the target needs
        └── OutOfMemory         the stage asked for more memory than the check may use
    Interrupted, a KeyboardInterrupt: a signal asked the command to end: exit code 128 + its number

Every message is one line in two parts: what is wrong; what to do. The line stays short however long the text is that a
file or a command line put into it, and it holds no character that moves a terminal's cursor or changes its colours.

An exception of the user's code may raise in ``str()``, hold a text of 50 MB, or be part of a cycle of causes. The
functions at the end read its fields with Python's own descriptors, and never more of its text than a bound.
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

from harness.deprecated import accept_old_names, old_attributes

MAX_PART_LENGTH = 600
"""Characters of each part of a problem, and a quarter of the characters of any other line."""

SIGNAL_EXIT_BASE = 128
"""The exit code of a command that a signal ended is this plus the signal's number, as in shells: 130 for Ctrl-C."""


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A place in a file; ``line`` and ``column`` count from 1, as in editors. Line 0 stands for the whole file."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{bounded_line(self.file)}:{self.line}:{self.column}" if self.line else bounded_line(self.file)


@old_attributes(wrong="message", right="remedy")
@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in a file: where it is, what is wrong (``message``), and what to do (``remedy``)."""

    where: Location
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        parts = (part for part in (self.message, self.remedy) if part)
        return f"{self.where}: {'; '.join(map(_bounded_part, parts))}"


class HarnessError(Exception):
    """The base class of everything harness raises on purpose."""

    exit_code: ClassVar[int] = 3


class RequestError(HarnessError):
    """The request cannot be carried out as it is written."""

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str) -> None:
        super().__init__(bounded_line(message))


class SpecError(RequestError):
    """All problems of the user's files at once, in reading order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        Exception.__init__(self, "\n".join(map(str, self.problems)))


class UsageError(RequestError):
    """The command line, or a call of the Python API, is wrong."""


class Mistakes(SpecError):
    """Every mistake of a command line, or in the model that it names: one sentence each, on a line of its own."""

    def __init__(self, lines: Iterable[str]) -> None:
        super().__init__(())
        self.args = ("\n".join(bounded_line(one_line(line), 2000) for line in dict.fromkeys(lines)),)


class RuntimeMissing(HarnessError):
    """A runtime named by ``--require`` is not on this machine, or no check can run on this operating system."""


class DiskFull(HarnessError):
    """A folder that harness writes to is full or not writable. No model is at fault, so no result reports it."""


@old_attributes(of_library="from_library")
class StageError(HarnessError):
    """A stage of one check could not finish, for a reason that harness recognizes.

    ``symptom`` is the symptom in the report. ``from_library`` is True if a library raised it and harness passes it on.
    """

    symptom: ClassVar[Literal["exception", "unsupported", "unavailable", "out-of-memory"]] = "exception"

    def __init__(self, message: str, *, from_library: bool = False) -> None:
        super().__init__(message)
        self.from_library = from_library


class Unsupported(StageError):
    """The exporter or the runtime reports that it does not support this."""

    symptom = "unsupported"


class Unavailable(StageError):
    """This machine lacks something that the target needs; the message says how to install it."""

    symptom = "unavailable"


class OutOfMemory(StageError):
    """The stage asked for more memory than the check may use."""

    symptom = "out-of-memory"


@old_attributes(by="signal")
class Interrupted(KeyboardInterrupt):
    """The signal ``signal`` asked the command to end, as Ctrl-C does; ``latest`` is the last one that did."""

    latest: ClassVar[signal.Signals | None] = None

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(received.name)
        self.signal = received
        Interrupted.latest = received


def interrupting_signal(error: KeyboardInterrupt) -> signal.Signals:
    """The signal that caused ``error``; SIGINT, which is Ctrl-C, if nothing says so.

    A library may catch :class:`Interrupted` and raise a KeyboardInterrupt of its own, as Ray does.
    """
    return error.signal if isinstance(error, Interrupted) else Interrupted.latest or signal.SIGINT


@contextmanager
def collect_problems(problems: list[Problem]) -> Iterator[None]:
    """Add the problems of a :class:`SpecError` raised in the block to ``problems``, and continue after the block."""
    try:
        yield
    except SpecError as error:
        problems += error.problems


def describe_error(error: BaseException) -> str:
    """One line about ``error``: its message, and for foreign exceptions also the type and the place that raised it."""
    message = one_line(str(error))
    if isinstance(error, HarnessError):
        return message
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    place = "" if at is None else f" ({at.tb_frame.f_code.co_filename}, line {at.tb_lineno})"
    return f"{type(error).__name__}: {message}{place}" if message else f"{type(error).__name__}{place}"


# Text for messages


def one_line(text: str) -> str:
    """``text`` with every run of whitespace, line ends included, replaced by one space."""
    return " ".join(text.split())


def shortened(text: str, length: int) -> str:
    """``text`` on one line, cut at ``length`` characters; report.json holds the whole text."""
    line = one_line(text)
    return line if len(line) <= length else f"{line[: length - 3]}..."


def printable(text: str) -> str:
    r"""``text`` with ``\xNN`` for control characters and lone surrogates, which a terminal or XML reader would obey."""
    return "".join(char if char.isprintable() or char in "\n\t" else f"\\x{ord(char):02x}" for char in text)


def bounded_line(text: str, limit: int = 4 * MAX_PART_LENGTH) -> str:
    """``text`` on one line of about ``limit`` characters, with escapes for characters that cannot be printed.

    Of a longer text the beginning and the end are kept: they say what the text is and what is wrong with it.
    """
    text = _cut(text, limit)
    return text if text.isprintable() else "".join(map(_escaped_character, text))


def _bounded_part(text: str) -> str:
    """One part of a problem on one line. It is cut first, since it may hold megabytes."""
    return bounded_line(one_line(_cut(text, MAX_PART_LENGTH)))


def _cut(text: str, limit: int) -> str:
    tail = limit // 4
    return text if len(text) <= limit else f"{text[: limit - tail]}... ({len(text):,} characters) ...{text[-tail:]}"


def _escaped_character(character: str) -> str:
    """The character, or its Python escape if it cannot be printed; spaces of other scripts are kept."""
    if character.isprintable() or (character.isspace() and category(character) == "Zs"):
        return character
    return character.encode("unicode_escape").decode("ascii")


_PATH_ESCAPE = re.compile(rb"\\(?:(\\)|x([0-9a-f]{2}))")


def escape_path(path: Path | str) -> str:
    r"""A path as text that can be written anywhere; :func:`unescape_path` reverses it.

    A byte that is not UTF-8 becomes its escape, ``\\xff``, and so do the bytes of a character that cannot be printed,
    such as a line end; a backslash is doubled. Under a locale such as C, Python decodes non-ASCII letters as single
    bytes; the result is the same there.
    """
    text = os.fsencode(path).decode("utf-8", "surrogateescape")
    return "".join(char if char.isprintable() and char != "\\" else _escaped_bytes(char) for char in text)


def unescape_path(text: str) -> str:
    """The path that :func:`escape_path` turned into ``text``."""
    raw = _PATH_ESCAPE.sub(lambda match: match[1] or bytes.fromhex(match[2].decode()), text.encode("utf-8", "replace"))
    return os.fsdecode(raw)


def _escaped_bytes(char: str) -> str:
    if char == "\\":
        return "\\\\"
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


# Exceptions of the user's code

MAX_CAUSES = 20
MAX_TEXT_LENGTH = 1 << 16
"""Characters of a text that are read at all; no library puts anything important after them."""

_CONTROL_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_NAME, _MODULE = (vars(type)[name] for name in ("__name__", "__module__"))
_CAUSE, _CONTEXT, _TRACEBACK = (vars(BaseException)[name] for name in ("__cause__", "__context__", "__traceback__"))


def cause_chain(error: BaseException) -> Iterator[BaseException]:
    """``error`` and its causes, nearest first; at most :data:`MAX_CAUSES`, since causes may form a cycle."""
    link: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if link is None:
            return
        yield link
        cause, context = explicit_cause(link), _CONTEXT.__get__(link)
        link = context if cause is None else cause


def explicit_cause(error: BaseException) -> BaseException | None:
    """The exception that ``error`` was raised ``from``; None if it was raised without ``from``."""
    cause: BaseException | None = _CAUSE.__get__(error)
    return cause


def safe_str(value: object) -> str:
    """``str(value)``, of any length; if that raises, a text that says so."""
    try:
        return str.__str__(str(value))
    except BaseException as raised:
        if raised_by_signal_handler(raised):
            raise
        return f"no message, since str() of it raises {class_name(raised)}"


def bounded_text(value: object) -> str:
    """The first :data:`MAX_TEXT_LENGTH` characters of :func:`safe_str`."""
    return safe_str(value)[:MAX_TEXT_LENGTH]


def class_name(error: BaseException) -> str:
    """The name of the class of ``error``, on one line of at most 100 characters plus escapes."""
    name: str = _NAME.__get__(type(error))
    return escape_controls(one_line(name)[:100]) or "an exception without a name"


def class_module(error: BaseException) -> str:
    """The module that the class of ``error`` names as its own; empty if it names none."""
    with suppress(AttributeError):
        module: object = _MODULE.__get__(type(error))
        if type(module) is str:
            return module
    return ""


def escape_controls(text: str) -> str:
    """``text`` with escapes for control characters, line ends included, and for what UTF-8 cannot encode."""
    return text.encode("utf-8", "backslashreplace").decode().translate(_CONTROL_ESCAPES)


def raised_by_signal_handler(error: BaseException) -> bool:
    """True if a signal handler of this process raised ``error``: for Ctrl-C, or for a limit that the caller set.

    Always False for an ``Exception``: those pass through the code that they interrupt and are not about this check.
    Python's own handler of Ctrl-C leaves no trace; see :func:`harness.check.module.in_memory.check_module`.
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


accept_old_names(__name__)
