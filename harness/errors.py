"""Everything harness raises on purpose.

    HarnessError
    ├── RequestError            the request is wrong: exit code 2
    │   ├── SpecError           one or more problems in files the user wrote
    │   └── UsageError          the command line asks for something that cannot be
    ├── RuntimeMissing          a required runtime, or system, is not what is here: exit code 3
    ├── NoRoom                  the disk takes no more, so that the run cannot go on: exit code 3
    └── StageError              one check could not finish a stage; it becomes a row, never a traceback
        ├── Unsupported         the exporter or runtime says that it does not do this
        ├── Unavailable         what the target needs is not on this machine
        └── OutOfMemory         the stage asked for more memory than it may have

Every message is one line in two halves: what is wrong; what would be right.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal


def told(path: Path | str) -> str:
    """A path as text that can be written anywhere: a byte that is not UTF-8 stands as its escape.

    Under a locale such as C, Python reads other letters as such bytes; the path is told the same there.
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A place in a file; ``line`` and ``column`` count from 1, as editors do."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in a file: where, what, and what would be right."""

    where: Location
    wrong: str
    right: str = ""

    def __str__(self) -> str:
        line = f"{self.where}: {self.wrong}; {self.right}" if self.right else f"{self.where}: {self.wrong}"
        return " ".join(line.split())


class HarnessError(Exception):
    """The root: catch this to catch everything harness raises on purpose."""

    exit_code: ClassVar[int] = 3


class RequestError(HarnessError):
    """What was asked for cannot be done as it is written."""

    exit_code: ClassVar[int] = 2


class SpecError(RequestError):
    """One or more problems in the user's files, all of them at once, in reading order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


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


class NoRoom(HarnessError):
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
