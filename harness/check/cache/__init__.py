"""The artifact cache: exported files, stored under a key of everything they depend on."""

from __future__ import annotations

from pathlib import Path


def is_empty(folder: Path | None) -> bool:
    """True if the cache in ``folder`` has no entry."""
    return folder is None or next(folder.glob("??/*"), None) is None
