"""What a machine of the cluster does with a job: the same as a run on one machine does, with one worker."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.engine.cluster.freight import Files, Freight, at_home, new, unpack
from harness.engine.job import Job
from harness.engine.journal import Entry
from harness.engine.local import LocalEngine
from harness.engine.temporary import temporary_folder
from harness.environment import versions
from harness.result import Result
from harness.verify.artifacts import open_cache
from harness.verify.settings import cache_folder

OWN_CODE = "own_code"
"""The folder, below the one that Ray starts its workers in, that holds what the run's own folder holds."""


@dataclass(frozen=True, slots=True)
class Brought:
    """What comes back: the job's entries, the exports that were made for it, and what the machine has installed."""

    entries: tuple[Entry, ...]
    exports: Mapping[str, Files]
    versions: Mapping[str, str]
    machine: str


def carry_out(job: Job, freight: Freight) -> Brought:
    """Run the job's checks here, in contained workers."""
    cache = None if job.settings.cache is None else cache_folder()
    if cache is not None:
        open_cache(cache)
        unpack(freight.exports, cache)
    with temporary_folder() as scratch:
        journal = scratch / "journal.jsonl"
        journal.touch()
        settings = replace(job.settings, cache=cache, concurrent=1)
        own = Path.cwd() / OWN_CODE
        home = own if job.runs_own_code and own.is_dir() else Path.cwd()
        here = replace(job, settings=settings, journal=journal, scratch=scratch, home=home)
        here = at_home(here, freight.recorded, scratch / "recorded")
        entries = tuple(LocalEngine(1, journal, scratch).run([here]))
    machine = socket.gethostname()
    told = tuple(replace(entry, result=_told(entry.result, machine)) for entry in entries)
    return Brought(told, new(here, cache, freight.exports), versions(), machine)


def _told(result: Result, machine: str) -> Result:
    """The result, with the machine that its latency is of."""
    return result if result.latency is None else replace(result, latency={**result.latency, "machine": machine})
