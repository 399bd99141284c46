"""An entry of the artifact cache: the outcome of an export as files in a folder, sealed by checksums."""

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
from harness.result import to_json_line

ENTRY_FILE = "entry.json"


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """The outcome of an export: an artifact, or ``refused``, the message of a refusal.

    ``output`` is what the libraries printed. ``from_library`` is False if harness itself refused, as in
    :class:`StageError`.
    """

    artifact: Artifact | None
    refused: str | None
    unsupported: bool
    output: tuple[str, ...]
    from_library: bool = True

    def artifact_or_raise(self) -> Artifact:
        """The artifact. For a refusal, raises an error that makes the same result as the exporter's own did."""
        if self.artifact is not None:
            return self.artifact
        assert self.refused is not None
        raise (Unsupported if self.unsupported else StageError)(self.refused, from_library=self.from_library)


def read_entry(folder: Path) -> CacheEntry | None:
    """The entry in ``folder``; None if there is none or it is damaged."""
    if not (folder / ENTRY_FILE).is_file():  # the most frequent case in a first run; reading a non-file may block
        return None
    try:
        sealed = json.loads((folder / ENTRY_FILE).read_bytes())
        if sealed["seal"] != _seal(sealed["note"]):
            return None
        note = json.loads(sealed["note"])
        files = note.pop("files")
        if not all((folder / name).is_file() for name in files) or note.pop("sum") != _digest(folder, files):
            return None
        artifact = None if note["artifact"] is None else _artifact_from_json(note["artifact"], folder)
        return CacheEntry(**note | {"artifact": artifact, "output": tuple(note["output"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def write_entry(entry: CacheEntry, folder: Path) -> None:
    """Write the note of ``entry`` to ``folder``, which already holds the exported file."""
    with os.scandir(folder) as contents:
        files = sorted(file.name for file in contents)
    note = {
        "artifact": None if entry.artifact is None else _artifact_to_json(entry.artifact),
        "refused": entry.refused,
        "unsupported": entry.unsupported,
        "output": entry.output,
        "from_library": entry.from_library,
        "files": files,
        "sum": _digest(folder, files),
    }
    text = to_json_line(note).decode()
    (folder / ENTRY_FILE).write_bytes(to_json_line({"seal": _seal(text), "note": text}))


def _artifact_to_json(artifact: Artifact) -> dict[str, Any]:
    return {field.name: getattr(artifact, field.name) for field in fields(artifact)} | {"path": artifact.path.name}


def _artifact_from_json(note: dict[str, Any], folder: Path) -> Artifact:
    lists = {key: tuple(note[key]) for key in ("notes", "tracer_warnings")}
    return Artifact(**note | lists | {"path": folder / note["path"]})


def _digest(folder: Path, files: Iterable[str]) -> str:
    return sha256(*(folder / name for name in files))


def _seal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
