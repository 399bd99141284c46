"""The journal of a search: each choice that was measured is a line of JSON, written as soon as it is known."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.environment import versions
from harness.errors import HarnessError
from harness.precision.layers import Lowering
from harness.precision.sensitivity.steps import Outcome, Start
from harness.result import to_json

JOURNAL = "journal.jsonl"


class Journal:
    """The choices that were measured, each a line of JSON. ``known`` are those of an earlier run."""

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self.known = dict(_read(path, key))
        self._write("w", {"key": key})
        for kept, outcome in self.known.items():
            self.add(kept, outcome)

    def add(self, kept: frozenset[str], outcome: Outcome) -> None:
        """Write one choice. Raises :class:`HarnessError` where the file cannot be written."""
        self._write("a", {"kept": sorted(kept), "outcome": to_json(outcome)})

    def _write(self, mode: str, line: dict[str, Any]) -> None:
        try:
            with self._path.open(mode, encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise HarnessError(f"{self._path}: {error.strerror}; make room, or name another folder with -o") from error


def _read(path: Path, key: str) -> list[tuple[frozenset[str], Outcome]]:
    """The choices of an earlier run; none if it was about something else. A line that is damaged does not count."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        if not lines or json.loads(lines[0]) != {"key": key}:
            return []
    except (OSError, ValueError):
        return []
    choices: list[tuple[frozenset[str], Outcome]] = []
    adapter = TypeAdapter(Outcome)
    for line in lines[1:]:
        try:
            entry = json.loads(line)
            outcome = adapter.validate_python(entry["outcome"])
            if outcome.measure is not None:  # what failed is tried again
                choices.append((frozenset(entry["kept"]), outcome))
        except (ValueError, KeyError, TypeError, ValidationError):
            continue
    return choices


def journal_key(start: Start, lowering: Lowering) -> str:
    """What all choices of a journal share: the model, its samples, the lowering, and the installed libraries."""
    packages = dict(versions())
    names = [layer.name for layer in start.layers]
    text = json.dumps([start.digest, lowering.word, dict(lowering.options), names, packages], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
