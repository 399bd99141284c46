"""The journal: each check's result, one line each, written as soon as it is known.

A line is the check's entry as JSON behind its own seal. It is written in one call on a file opened for appending, so
that workers may share it and a killed run loses at most the checks in flight. A line that is torn, or is not what was
written, does not count: its check is run again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import NoRoom
from harness.result import Result, result_from_json
from harness.written import one_line


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
    """Adds entries to the journal at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)

    def add(self, entry: Entry) -> None:
        """Write one line. Raises :class:`NoRoom` where the disk takes no more."""
        text = one_line(entry)
        self._write(b"%s %s\n" % (_seal(text), text))

    def mend(self) -> None:
        """End a last line that a killed run left torn, so that the next one stands by itself."""
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            self._write(b"\n")

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)

    def _write(self, line: bytes) -> None:
        try:
            whole = os.write(self._file, line) == len(line)
        except OSError as error:
            raise NoRoom(f"{self._path}: {error.strerror}; make room, then go on with --resume") from error
        if not whole:
            raise NoRoom(f"{self._path}: no space left; make room, then go on with --resume")


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
    if not path.exists():
        return {}
    entries = filter(None, map(_entry, path.read_bytes().split(b"\n")))
    return {(entry.result.case, entry.result.target): entry for entry in entries}


def _entry(line: bytes) -> Entry | None:
    """The entry that stands on a line; None for one that is not as it was written."""
    seal, _, text = line.partition(b" ")
    if seal != _seal(text):
        return None
    try:
        record: dict[str, Any] = json.loads(text)
        return Entry(**record | {"result": result_from_json(record["result"])})
    except (ValueError, KeyError, TypeError):  # sealed by another version, which wrote otherwise
        return None


def _seal(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:16].encode()
