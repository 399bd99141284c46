"""A JSON file that somebody gives: read whole, or refused in one line with its place."""

from __future__ import annotations

import json
import os
import select
import stat
import time
from pathlib import Path
from typing import Any

from harness.errors import Location, Problem, SpecError

LARGEST_FILE = 2**30
SECONDS_TO_OPEN = 2.0
"""How long a pipe may have nobody who writes to it."""
SECONDS_OF_SILENCE = 60.0
AT_ONCE = 2**20
DEEPEST = 64


def read_json(path: Path, what: str, right: str) -> Any:
    """What stands in the file at ``path``, which is ``what``; ``right`` says what would be.

    Raises :class:`SpecError` of one line where it cannot be read, is a device, is larger than 1 GiB, is cut short, is
    nested beyond all sense, or is no JSON. A pipe, as of ``<(...)`` in a shell, is read to its end, unless nobody
    writes to it.
    """
    try:
        kind = path.stat().st_mode
        if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
            raise refused(path, "this is a device and no file", right)
        if stat.S_ISFIFO(kind):
            raw = _from_pipe(path)
        else:
            with path.open("rb") as file:
                raw = file.read(LARGEST_FILE + 1)
    except TimeoutError as error:
        raise refused(path, "this is a pipe that nobody writes to", right) from error
    except OSError as error:
        raise refused(path, f"cannot be read ({error.strerror})", right) from error
    if len(raw) > LARGEST_FILE:
        raise refused(path, f"larger than {LARGEST_FILE >> 30} GiB", right)
    try:
        found = json.loads(raw)
    except json.JSONDecodeError as error:
        wrong = f"{what} is cut short or broken" if error.pos else "this is not JSON"
        raise refused(path, f"{wrong} ({error.msg})", right, error.lineno, error.colno) from error
    except (ValueError, RecursionError) as error:  # no UTF-8, a number of thousands of digits, a nest without end
        raise refused(path, "this is not a JSON text that can be read", right) from error
    if _is_deep(found):
        raise refused(path, f"{what} is nested more than {DEEPEST} deep", right)
    return found


def _is_deep(value: Any) -> bool:
    """Whether ``value`` is nested deeper than those who go through it level by level can bear."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST + 1):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [one for each in inner for one in each if isinstance(one, dict | list)]
        if not level:
            return False
    return True


def _from_pipe(path: Path) -> bytes:
    """All that is written to the pipe. Raises :class:`TimeoutError` where that is nothing, or nothing more comes."""
    pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else it would wait for a writer without end
    try:
        parts: list[bytes] = []
        until = time.monotonic() + SECONDS_TO_OPEN
        while sum(map(len, parts)) <= LARGEST_FILE:
            try:
                parts.append(os.read(pipe, AT_ONCE))
            except BlockingIOError:
                if not select.select([pipe], [], [], SECONDS_OF_SILENCE)[0]:
                    raise TimeoutError from None
                continue
            if parts[-1]:
                continue
            if len(parts) > 1:
                break
            # Nobody has opened it to write, or somebody has and wrote nothing.
            if time.monotonic() > until:
                raise TimeoutError
            del parts[-1]
            time.sleep(0.01)
        return b"".join(parts)
    finally:
        os.close(pipe)


def refused(path: Path, wrong: str, right: str, line: int = 1, column: int = 1) -> SpecError:
    """The one thing that is wrong with the file at ``path``."""
    return SpecError([Problem(Location(str(path), line, column), wrong, right)])


def place_in(location: tuple[int | str, ...]) -> str:
    """``("cases", 0, "id")``, as pydantic has it, as ``cases[0].id``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location if part != "[key]")
    return "".join(parts).lstrip(".")
