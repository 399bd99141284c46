"""The journal: each check's result, one line each, written as soon as it is known.

A line is the check's entry as JSON behind its own seal. It is written in one call on a file opened for appending, so
that workers may share it and a killed run loses at most the checks in flight. A line that is torn, or is not what was
written, does not count: its check is run again. Neither does one that holds something else than an entry.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from harness.errors import DiskFull
from harness.result import Result, result_from_json
from harness.serialization import one_line


@dataclass(frozen=True, slots=True)
class Entry:
    """What a check came to. ``of`` names the configuration that it holds for.

    ``exported`` says how many files were made for it, and ``reused`` how many were taken from the cache.
    """

    result: Result
    of: str
    exported: int = 0
    reused: int = 0


class JournalWriter:
    """Adds entries to the journal at ``path``. Raises ``OSError`` where that is not a file, or cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o644)
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            os.close(self._file)
            raise OSError(errno.EINVAL, f"{path.name} is there and is no file")

    def add(self, entry: Entry) -> None:
        """Write one line. Raises :class:`DiskFull` where the disk takes no more."""
        text = one_line(entry)
        self._write(b"%s %s\n" % (_seal(text), text))

    def mend(self) -> None:
        """End a last line that a killed run left torn, so that the next one stands by itself."""
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            self._write(b"\n")

    def close(self) -> None:
        """Give the file back."""
        with suppress(OSError):  # a check may have closed it
            os.close(self._file)

    def _write(self, line: bytes) -> None:
        try:
            whole = os.write(self._file, line) == len(line)
        except OSError as error:
            raise DiskFull(f"{self._path}: {error.strerror}; make room, then go on with --resume") from error
        if not whole:
            raise DiskFull(f"{self._path}: no space left; make room, then go on with --resume")


class JournalReader:
    """The run's end: what was written since the last look, from the end of the file on at first."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._file.seek(0, os.SEEK_END)
        self._rest = b""

    def new(self) -> Iterator[Entry]:
        """The entries that came since the last call, in the order in which they were written."""
        fresh = self._file.read()
        if fresh:
            *lines, self._rest = (self._rest + fresh).split(b"\n")
            yield from filter(None, map(_entry, lines))

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def recorded(path: Path) -> dict[tuple[str, str], Entry]:
    """What an earlier run left: the last entry of each case and target."""
    if not path.is_file():
        return {}
    entries = filter(None, map(_entry, path.read_bytes().split(b"\n")))
    return {(entry.result.case, entry.result.target): entry for entry in entries}


def _entry(line: bytes) -> Entry | None:
    """The entry that stands on a line; None for one that is not as it was written, or is something else."""
    seal, _, text = line.partition(b" ")
    if seal != _seal(text):
        return None
    try:
        record: dict[str, Any] = json.loads(text)
        entry = Entry(**record | {"result": result_from_json(record["result"])})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # by another version, or another program
        return None
    return entry if _is_whole(entry) else None


def _is_whole(entry: Entry) -> bool:
    """True where every field holds what it is for; JSON holds anything."""
    return _holds(Entry)(entry) and min(entry.exported, entry.reused) >= 0


@cache
def _holds(kind: Any) -> Callable[[Any], bool]:
    """Whether a value is of ``kind``, through all that it holds: of dataclasses, and of what JSON can say."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda _value: True
    if is_dataclass(kind):
        fields = [(name, _holds(hint)) for name, hint in get_type_hints(kind).items()]
        return lambda value: type(value) is kind and all(holds(getattr(value, name)) for name, holds in fields)
    if origin is Literal:
        return lambda value: type(value) is str and value in parts
    if origin in {Union, UnionType} and not _PLAIN.issuperset(parts):
        any_of = [_holds(part) for part in parts]
        return lambda value: any(holds(value) for holds in any_of)
    if origin is tuple:
        each = _holds(parts[0])
        return lambda value: type(value) is tuple and (not value or all(map(each, value)))
    if origin is Mapping:
        each = _holds(parts[1])
        return lambda value: type(value) is dict and all(map(each, value.values()))
    plain = {*(parts or (kind,))}
    plain |= {int} if float in plain else set()
    return lambda value: type(value) in plain


_PLAIN = frozenset({str, int, float, bool, type(None)})


def _seal(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:16].encode()
