"""What a run asks of every check."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

TIMEOUT = 120.0
"""Seconds that a check may take where nobody says otherwise."""
TIMEOUT_PER_GIB = 60.0
"""So many more for each GiB of the model. The slowest of the default targets took 7 s for each (building and tracing a
Linear of 2.25 GiB, on two cores of a server); a machine may be eight times as slow."""


@dataclass(frozen=True, slots=True)
class Settings:
    """``timeout`` is in seconds and ``memory`` in bytes, per check; None is no limit.

    ``timeout_per_gib`` is added to the time limit for each GiB of the model, once that is built.
    ``strict_ulp`` holds every floating output to that many ULP, whatever the spec or the layer says. ``cache`` is the
    folder of exported files, None for a run that keeps none. ``latency`` is False where nothing is timed.
    ``pack`` is the folder of a bundle in the making: checks are then written into it and not carried out.
    """

    timeout: float | None = TIMEOUT
    timeout_per_gib: float = 0.0
    memory: int | None = None
    latency: bool = True
    strict_ulp: int | None = None
    cache: Path | None = None
    concurrent: int = 1
    pack: Path | None = None


def with_time_limit(settings: Settings, seconds: float | None) -> Settings:
    """``settings`` with a limit of ``seconds``, and of nothing else; where that is None, with what holds by default."""
    if seconds is None:
        return replace(settings, timeout=TIMEOUT, timeout_per_gib=TIMEOUT_PER_GIB)
    return replace(settings, timeout=seconds, timeout_per_gib=0.0)


def seconds_for(size: int, settings: Settings) -> int:
    """How much longer a check may take whose model is ``size`` bytes large."""
    return math.ceil(settings.timeout_per_gib * size / 2**30)


def cache_folder() -> Path:
    """Where exported files are kept between runs: ``HARNESS_CACHE``, else the user's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("HARNESS_CACHE") or user_cache_path("harness")) / "artifacts"
