"""What takes room: pictures, scripts and logs. The most urgent checks have theirs, as far as the page has room."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.report.wording import WRONG, shortened
from harness.result import Result, to_json

ROOM = 2_000_000
"""So many characters of the page are for what takes room; the page stays small enough to be sent."""

_LOG_LINES = 15
_LINE = 300

LEFT_OUT = "left out to keep this page small; report.json holds it"


def heavy(results: Sequence[Result]) -> dict[int, Mapping[str, Any]]:
    """By the number of the check: its ``log``, ``script`` and ``pictures``; or ``left_out``, which says so.

    What is wrong comes before what is known, and that before all else. What several checks share takes room once.
    """
    shown: dict[int, Mapping[str, Any]] = {}
    counted: set[str] = set()
    left = ROOM
    for number in sorted(range(len(results)), key=lambda number: _urgency(results[number])):
        parts = dict(_parts(results[number]))
        if not parts:
            continue
        new = {json.dumps(part) for part in parts.values()} - counted
        size = sum(map(len, new))
        if size > left:
            shown[number] = {"left_out": f"{', '.join(parts)}: {LEFT_OUT}"}
            continue
        left -= size
        counted |= new
        shown[number] = parts
    return shown


def _urgency(result: Result) -> int:
    return 0 if result.status in WRONG else 1 if result.status == "known" else 2


def _parts(result: Result) -> Iterator[tuple[str, Any]]:
    if result.log:
        yield "log", list(_end(result.log))
    if result.reproduction:
        yield "script", result.reproduction
    if result.pictures:
        yield "pictures", to_json(result.pictures)


def _end(lines: Sequence[str]) -> Iterator[str]:
    """The end of what the libraries printed; an error stands at the end of it."""
    left = len(lines) - _LOG_LINES
    if left > 0:
        yield f"... {left:,} earlier lines are in report.json"
    yield from (shortened(line, _LINE) for line in lines[-_LOG_LINES:])
