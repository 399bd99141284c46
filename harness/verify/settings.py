"""What a run asks of every check."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """``timeout`` is in seconds and ``memory`` in bytes, per check; None is no limit.

    ``strict_ulp`` holds every floating output to that many ULP, whatever the spec or the layer says. ``cache`` is the
    folder of exported files, None for a run that keeps none. ``latency`` is False where nothing is timed.
    ``pack`` is the folder of a bundle in the making: checks are then written into it and not carried out.
    """

    timeout: float | None = 120.0
    memory: int | None = None
    latency: bool = True
    strict_ulp: int | None = None
    cache: Path | None = None
    concurrent: int = 1
    pack: Path | None = None


def cache_folder() -> Path:
    """Where exported files are kept between runs: ``HARNESS_CACHE``, else the user's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("HARNESS_CACHE") or user_cache_path("harness")) / "artifacts"
