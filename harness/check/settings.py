"""Settings that a run applies to every check."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

TIMEOUT = 120.0
"""Default time limit of a check in seconds."""
TIMEOUT_PER_GIB = 60.0
"""Default extra seconds per GiB of the model. The slowest default target took 7 s per GiB (building and tracing a
Linear of 2.25 GiB on two cores of a server). Another machine may be eight times as slow."""

LARGEST = 1e9
"""The largest number that an option takes: as seconds, 30 years. The timers of the system overflow later."""
MEMORY_PER_BYTE = 8
"""Bytes added to the memory limit for each byte of the model. A check holds its weights in the module, the exported
program, the session and the session's own layout, and those of a small model in float64 too, which takes twice as much.
"""

LAYER_BYTES = 2**29
"""Default of the bytes that the values of the layers of an export take in a bundle."""

SAMPLES_PER_LIMIT = 100
"""This many samples may take as long as a whole check, in which a model is exported and run about ten times."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of every check. ``timeout`` is in seconds and ``memory`` in bytes, per check; None means no limit.

    To ``memory``, :data:`MEMORY_PER_BYTE` bytes are added for each byte of the model, once the model is built.

    - ``timeout_per_gib``: seconds added to the time limit per GiB of the model, once the model is built.
    - ``strict_ulp``: hold every floating output to that many ULP, whatever the spec or the layer allows.
    - ``cache``: folder of the artifact cache; None keeps no artifacts.
    - ``latency``: False times nothing.
    - ``layers``: compare the inside of the model too, and fail a check in which a layer is wrong by itself. False does
      the first for a whole model that fails, None for nothing.
    - ``concurrent``: number of worker processes that run at the same time.
    - ``samples``: folder of the rows of samples, from which an interrupted run goes on; None keeps none.
    - ``sources``: a digest of the user's modules that the case runs, so that no result outlives a change of them.
    - ``pack``: folder of a bundle that is being written. Cases are then exported into it and not checked.
    - ``pack_layers``: bytes that the values of the layers of each export may take in that bundle. None packs no layers.
    """

    timeout: float | None = TIMEOUT
    timeout_per_gib: float = 0.0
    memory: int | None = None
    latency: bool = True
    layers: bool | None = False
    strict_ulp: int | None = None
    cache: Path | None = None
    concurrent: int = 1
    samples: Path | None = None
    sources: str = ""
    pack: Path | None = None
    pack_layers: int | None = None


def with_time_limit(settings: Settings, seconds: float | None) -> Settings:
    """``settings`` with a limit of ``seconds``, whatever the model's size; None sets the defaults for both."""
    if seconds is None:
        return replace(settings, timeout=TIMEOUT, timeout_per_gib=TIMEOUT_PER_GIB)
    return replace(settings, timeout=seconds, timeout_per_gib=0.0)


def allow_for_samples(settings: Settings, samples: int) -> Settings:
    """``settings`` with one more time limit for each :data:`SAMPLES_PER_LIMIT` samples that a check runs one by one."""
    if settings.timeout is None:
        return settings
    return replace(settings, timeout=settings.timeout * (1 + samples / SAMPLES_PER_LIMIT))


def extra_seconds(size: int, settings: Settings) -> int:
    """Seconds added to the time limit for a model of ``size`` bytes."""
    return math.ceil(settings.timeout_per_gib * size / 2**30)


def cache_folder() -> Path:
    """Folder of the artifact cache: ``HARNESS_CACHE``, else the user's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("HARNESS_CACHE") or user_cache_path("harness")) / "artifacts"
