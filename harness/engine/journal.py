"""The journal: one line for each check's result, written as soon as it is known.

A line is a checksum and the check's entry as JSON. It is written in one call on a file opened for appending, so workers
may share the file, and a killed run loses at most the checks in flight. A torn or changed line does not count, and
neither does one that holds something else than an entry: its check is run again.
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
from harness.result import Result, result_from_json, to_json_line


@dataclass(frozen=True, slots=True)
class Entry:
    """A check's result. ``fingerprint`` identifies the configuration that it holds for.

    ``exported`` is the number of files that were exported for it, ``reused`` the number taken from the cache.
    """

    result: Result
    fingerprint: str
    exported: int = 0
    reused: int = 0


class JournalWriter:
    """Adds entries to the journal at ``path``. Raises ``OSError`` where that is not a file, or cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o644)
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            os.close(self._file)
            raise OSError(errno.EINVAL, f"{path.name} exists and is not a file")

    def add(self, entry: Entry) -> None:
        """Write one line. Raises :class:`DiskFull` where the disk is full."""
        text = to_json_line(entry)
        self._write(b"%s %s\n" % (_checksum(text), text))

    def end_torn_line(self) -> None:
        """End the last line where a killed run left it torn, so that the next entry has its own line."""
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            self._write(b"\n")

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # a check may have closed it
            os.close(self._file)

    def _write(self, line: bytes) -> None:
        try:
            complete = os.write(self._file, line) == len(line)
        except OSError as error:
            raise DiskFull(f"{self._path}: {error.strerror}; make room, then continue with --resume") from error
        if not complete:
            raise DiskFull(f"{self._path}: no space left; make room, then continue with --resume")


class JournalReader:
    """Reads what is written after its construction."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._file.seek(0, os.SEEK_END)
        self._rest = b""

    def new_entries(self) -> Iterator[Entry]:
        """The entries written since the last call, in their order."""
        new = self._file.read()
        if new:
            *lines, self._rest = (self._rest + new).split(b"\n")
            yield from filter(None, map(_parse, lines))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_journal(path: Path) -> dict[tuple[str, str], Entry]:
    """Read the last entry of each case and target; empty where there is no journal."""
    if not path.is_file():
        return {}
    entries = filter(None, map(_parse, path.read_bytes().split(b"\n")))
    return {(entry.result.case, entry.result.target): entry for entry in entries}


def _parse(line: bytes) -> Entry | None:
    """Parse the entry on a line; None for a line that was changed, or that holds something else."""
    checksum, _, text = line.partition(b" ")
    if checksum != _checksum(text):
        return None
    try:
        record: dict[str, Any] = json.loads(text)
        entry = Entry(**record | {"result": result_from_json(record["result"])})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # by another version, or another program
        return None
    return entry if _is_valid(entry) else None


def _is_valid(entry: Entry) -> bool:
    """True where every field has its type; JSON holds anything."""
    return _type_check(Entry)(entry) and min(entry.exported, entry.reused) >= 0


@cache
def _type_check(expected: Any) -> Callable[[Any], bool]:
    """Return a function that tests a value's type and everything in it: dataclasses, and what JSON can represent."""
    origin, arguments = get_origin(expected), get_args(expected)
    if expected is Any:
        return lambda _value: True
    if is_dataclass(expected):
        fields = [(name, _type_check(hint)) for name, hint in get_type_hints(expected).items()]
        return lambda value: type(value) is expected and all(check(getattr(value, name)) for name, check in fields)
    if origin is Literal:
        return lambda value: type(value) is str and value in arguments
    if origin in {Union, UnionType} and not _PLAIN.issuperset(arguments):
        any_of = [_type_check(argument) for argument in arguments]
        return lambda value: any(check(value) for check in any_of)
    if origin is tuple:
        item = _type_check(arguments[0])
        return lambda value: type(value) is tuple and (not value or all(map(item, value)))
    if origin is Mapping:
        item = _type_check(arguments[1])
        return lambda value: type(value) is dict and all(map(item, value.values()))
    plain = {*(arguments or (expected,))}
    plain |= {int} if float in plain else set()
    return lambda value: type(value) in plain


_PLAIN = frozenset({str, int, float, bool, type(None)})


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:16].encode()
