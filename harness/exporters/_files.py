"""Artifacts appear whole or not at all."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A place to write an artifact to, under its own name; on leaving well it is moved to ``path``.

    The name stays, because a TorchScript archive and a reference to external data both hold it.
    What else was written there (external data) moves first, so that the artifact never stands without it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
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
