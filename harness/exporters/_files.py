"""Artifacts appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.forked import end_if_forked

BLOCK = 1 << 20


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A place to write an artifact to, under its own name; on leaving well it is at ``path``, else nothing new is.

    The name stays, because a TorchScript archive and a reference to external data both hold it. In an empty folder the
    place is ``path`` itself, since making a folder more and removing it takes longer than many exports' files.
    """
    folder, process = path.parent, os.getpid()
    if _holds_something(folder):
        with _aside(path) as draft:
            yield draft
        return
    try:
        yield path
    except BaseException:
        end_if_forked(process)
        for written in folder.iterdir():
            written.unlink()
        raise


def _holds_something(folder: Path) -> bool:
    """False also where there was no such folder; there is one now."""
    try:
        with os.scandir(folder) as held:
            return any(held)
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        return False


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """What else is written there (external data) moves first, so that the artifact never stands without it."""
    process = os.getpid()
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=path.parent) as folder:
        draft = Path(folder, path.name)
        try:
            yield draft
        finally:
            end_if_forked(process)
        for companion in companions(draft):
            companion.replace(path.parent / companion.name)
        draft.replace(path)


def companions(path: Path) -> list[Path]:
    """What else is in the folder of ``path``, by name."""
    return sorted(other for other in path.parent.iterdir() if other.name != path.name)


def sha256(*files: Path | bytes) -> str:
    """The SHA-256 of the files, or of what they hold, one after another, as hexadecimal digits."""
    digest = hashlib.sha256()
    for path in files:
        if isinstance(path, bytes):
            digest.update(path)
            continue
        with path.open("rb") as file:
            # To ask for a whole block is to have room made for it, which takes longer than a small file.
            block = min(BLOCK, os.fstat(file.fileno()).st_size + 1)
            while held := file.read(block):
                digest.update(held)
    return digest.hexdigest()
