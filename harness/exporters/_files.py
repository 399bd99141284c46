"""Artifacts appear whole or not at all."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A place to write an artifact to, under its own name; on leaving well it is at ``path``, else nothing new is.

    The name stays, because a TorchScript archive and a reference to external data both hold it. In an empty folder the
    place is ``path`` itself, since making a folder more and removing it takes longer than many exports' files.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _aside(path) if any(path.parent.iterdir()) else _in_place(path) as draft:
        yield draft


@contextmanager
def _in_place(path: Path) -> Iterator[Path]:
    try:
        yield path
    except BaseException:
        for written in path.parent.iterdir():
            written.unlink()
        raise


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """What else is written there (external data) moves first, so that the artifact never stands without it."""
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=path.parent) as folder:
        draft = Path(folder, path.name)
        yield draft
        for companion in sorted(draft.parent.iterdir()):
            if companion != draft:
                companion.replace(path.parent / companion.name)
        draft.replace(path)


def sha256(*paths: Path) -> str:
    """The SHA-256 of the files, one after another, as hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
