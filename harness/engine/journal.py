"""The journal: each check's start and result, one JSON line each, written by the workers as they go.

A line is written in one call on a file opened for appending, so that workers may share it and a
killed run loses at most the checks in flight. A torn last line is left for the next look.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.result import Result, Stage, result_from_json, to_json


@dataclass(frozen=True, slots=True)
class Started:
    """A check came to ``stage`` in process ``pid``; ``log`` and ``offset`` say where its worker's chatter is kept."""

    case: str
    target: str
    stage: Stage
    pid: int
    log: str
    offset: int


class JournalWriter:
    """A worker's end."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def started(self, started: Started) -> None:
        """Say that a check is in flight."""
        self._line({"started": to_json(started)})

    def finished(self, result: Result, fingerprint: str) -> None:
        """Say what a check came to; ``fingerprint`` names the configuration that it holds for."""
        self._line({"finished": to_json(result), "of": fingerprint})

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)

    def _line(self, record: Mapping[str, Any]) -> None:
        os.write(self._file, json.dumps(record, separators=(",", ":")).encode() + b"\n")


class JournalReader:
    """The run's end: what was written since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def new(self) -> Iterator[Started | Result]:
        """The records that came since the last call, in the order in which they were written."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            fresh = file.read()
        self._offset += len(fresh)
        *lines, self._rest = (self._rest + fresh).split(b"\n")
        for line in lines:
            record = json.loads(line)
            yield Started(**record["started"]) if "started" in record else result_from_json(record["finished"])


def recorded(path: Path) -> dict[tuple[str, str], tuple[str, Result]]:
    """What an earlier run left: for each case and target, the fingerprint and the result. Torn lines do not count."""
    found: dict[tuple[str, str], tuple[str, Result]] = {}
    if not path.exists():
        return found
    for line in path.read_bytes().split(b"\n"):
        try:
            record = json.loads(line)
            result = result_from_json(record["finished"])
            found[result.case, result.target] = (record["of"], result)
        except (ValueError, KeyError, TypeError):
            # The line of a start, or one torn by a kill: that check is run again.
            continue
    return found
