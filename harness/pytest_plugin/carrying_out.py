"""The checks of a case, carried out in a worker of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.engine.job import Job
from harness.engine.local import LocalEngine
from harness.engine.temporary import temporary_folder
from harness.result import Result
from harness.spec.case import Case
from harness.spec.target import Target
from harness.verify.settings import Settings, cache_folder


def carried_out(case: Case, targets: Sequence[Target], timeout: float) -> dict[str, Result]:
    """What ``case`` comes to by target, not judged yet; a crash or ``timeout`` seconds end one check alone.

    Raises :class:`harness.errors.HarnessError` where it cannot be carried out.
    """
    settings = Settings(timeout=timeout, latency=False, cache=cache_folder())
    with temporary_folder() as scratch:
        journal = scratch / "journal.jsonl"
        job = Job(case, tuple(targets), settings, journal, scratch, Path.cwd())
        return {entry.result.target: entry.result for entry in LocalEngine(1, journal, scratch).run([job])}
