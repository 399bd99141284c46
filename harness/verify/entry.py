"""One entry of the cache: a folder with a sealed note of what an export came to, and the exported file if there is one.

``entry.json`` holds the note and its SHA-256. The note names the files that stand beside it, and
holds the SHA-256 of them all.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from harness.errors import StageError, Unsupported
from harness.exporters import Artifact
from harness.exporters._files import sha256
from harness.written import one_line

NOTE = "entry.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """What an export came to: an artifact, or ``refused`` with the message of the row. ``said`` is what was printed.

    ``of_library`` is False where it was harness that refused, as :class:`StageError` tells it.
    """

    artifact: Artifact | None
    refused: str | None
    unsupported: bool
    said: tuple[str, ...]
    of_library: bool = True

    def give(self) -> Artifact:
        """The artifact. Raises what makes the same row as the exporter's own exception did, where it refused."""
        if self.artifact is not None:
            return self.artifact
        assert self.refused is not None
        raise (Unsupported if self.unsupported else StageError)(self.refused, of_library=self.of_library)


def write(entry: Entry, folder: Path) -> None:
    """Put the note into ``folder``, where the exported file stands already."""
    with os.scandir(folder) as held:
        files = sorted(file.name for file in held)
    note = {
        "artifact": None if entry.artifact is None else _noted(entry.artifact),
        "refused": entry.refused,
        "unsupported": entry.unsupported,
        "said": entry.said,
        "of_library": entry.of_library,
        "files": files,
        "sum": _sum(folder, files),
    }
    text = one_line(note).decode()
    (folder / NOTE).write_bytes(one_line({"seal": _seal(text), "note": text}))


def read(folder: Path) -> Entry | None:
    """The entry in ``folder`` where it is whole, else None."""
    if not (folder / NOTE).is_file():  # by far the most in a first run; what is there and no file may never end
        return None
    try:
        sealed = json.loads((folder / NOTE).read_bytes())
        if sealed["seal"] != _seal(sealed["note"]):
            return None
        note = json.loads(sealed["note"])
        files = note.pop("files")
        if not all((folder / name).is_file() for name in files) or note.pop("sum") != _sum(folder, files):
            return None
        artifact = None if note["artifact"] is None else _artifact(note["artifact"], folder)
        return Entry(**note | {"artifact": artifact, "said": tuple(note["said"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _noted(made: Artifact) -> dict[str, Any]:
    return {field.name: getattr(made, field.name) for field in fields(made)} | {"path": made.path.name}


def _artifact(note: dict[str, Any], folder: Path) -> Artifact:
    return Artifact(**note | {"path": folder / note["path"], "notes": tuple(note["notes"])})


def _sum(folder: Path, files: Iterable[str]) -> str:
    return sha256(*(folder / name for name in files))


def _seal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
