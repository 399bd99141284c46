"""The checks of a run from the first to the last: what an earlier run left of them, and where they are written down."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from harness.check.cache.artifacts import open_cache
from harness.check.settings import Settings
from harness.engine.cluster import Cluster, ClusterEngine
from harness.engine.job import Job, fingerprint
from harness.engine.journal import Entry, JournalWriter, recorded
from harness.engine.local import LocalEngine
from harness.engine.processes.limits import require_files, require_semaphores
from harness.engine.processes.temporary import temporary_folder
from harness.errors import UsageError, interrupted_by
from harness.result import Result
from harness.spec.language.case import Case
from harness.spec.targets import Target

JOURNAL = "journal.jsonl"
Key = tuple[str, str]
Work = Sequence[tuple[Case, tuple[Target, ...]]]


class Watcher(Protocol):
    """Somebody who looks on while checks run."""

    def advance(self, result: Result) -> None:
        """One more is known."""
        ...


@dataclass
class RunState:
    """What the checks came to so far; ``interrupted_by`` is the signal that stopped the run before its end, if one did.

    ``exported`` counts the exports that were made for it, ``reused`` those that came from the cache.
    """

    results: list[Result] = field(default_factory=list)
    interrupted_by: signal.Signals | None = None
    exported: int = 0
    reused: int = 0

    def add(self, entry: Entry) -> None:
        """One more check was run."""
        self.results.append(entry.result)
        self.exported += entry.exported
        self.reused += entry.reused


class Engine(Protocol):
    """Where checks run."""

    def run(self, jobs: Sequence[Job]) -> Iterator[Entry]:
        """What all checks of ``jobs`` came to, each as soon as it is known and stands in the journal."""
        ...


def run_jobs(
    work: Work,
    settings: Settings,
    workers: int,
    folder: Path,
    watcher: Watcher,
    *,
    resume: bool,
    cluster: Cluster | None = None,
) -> RunState:
    """Run all checks of ``work`` and write what they come to into a journal in ``folder``, line by line.

    They run on ``workers`` processes of this machine, or on the machines of ``cluster``.

    With ``resume``, what an earlier journal holds is not run again. Raises :class:`UsageError` where the folder or the
    cache cannot be written to, or another run is at work in the folder, before anything runs.
    """
    undertaking = RunState()
    jobs: list[Job] = []
    journal: Path | None = None
    _open(settings.cache)
    if cluster is None:
        require_files(min(workers, max(1, len(work))))
        require_semaphores()
    try:
        with _journal(folder) as journal, temporary_folder() as scratch:
            earlier = _earlier(journal, resume=resume)
            jobs, kept = _divide(work, replace(settings, concurrent=workers), journal, scratch, earlier)
            for result in kept:
                undertaking.results.append(result)
                watcher.advance(result)
            engine: Engine = LocalEngine(min(workers, max(1, len(jobs))), journal, scratch)
            if cluster is not None:
                engine = ClusterEngine(cluster, journal)
            for entry in engine.run(jobs):
                undertaking.add(entry)
                watcher.advance(entry.result)
    except KeyboardInterrupt as error:
        if journal is None:  # the folder may be another run's
            raise
        undertaking.interrupted_by = interrupted_by(error)
        for entry in _unread(undertaking.results, jobs, recorded(journal)):
            undertaking.add(entry)
    return undertaking


def _unread(known: Sequence[Result], jobs: Sequence[Job], journal: Mapping[Key, Entry]) -> list[Entry]:
    """What the workers wrote down, and the run had not come to read when it was stopped."""
    left = {(job.case.id, str(target)): (job, target) for job in jobs for target in job.targets}
    for result in known:
        left.pop((result.case, result.target), None)
    found = [(entry, *left[key]) for key, entry in journal.items() if key in left]
    return [entry for entry, job, target in found if entry.of == fingerprint(job.case, target, job.settings)]


def close(folder: Path) -> None:
    """The report is written: there is nothing left to go on with."""
    (folder / JOURNAL).unlink(missing_ok=True)


def _open(cache: Path | None) -> None:
    if cache is None:
        return
    try:
        open_cache(cache)
    except OSError as error:
        right = "set HARNESS_CACHE to a folder that can be written, or use --no-cache"
        raise UsageError(f"cache {cache}: {error.strerror}; {right}") from error


@contextmanager
def _journal(folder: Path) -> Iterator[Path]:
    """The journal in ``folder``, this run's alone."""
    lock = FileLock(folder / "journal.lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        JournalWriter(folder / JOURNAL).close()
    except Timeout as error:
        raise UsageError(f"--report-dir {folder}: another run is at work there; name another folder") from error
    except OSError as error:
        said = f"--report-dir {folder}: {error.strerror}; name a folder that can be written"
        raise UsageError(said) from error
    try:
        yield (folder / JOURNAL).resolve()
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _earlier(journal: Path, *, resume: bool) -> Mapping[Key, Entry]:
    """What stands in the journal, where it is to be gone on with; else it is begun anew."""
    if not resume:
        os.truncate(journal, 0)
        return {}
    writer = JournalWriter(journal)
    writer.mend()
    writer.close()
    return recorded(journal)


def _divide(
    work: Work, settings: Settings, journal: Path, scratch: Path, earlier: Mapping[Key, Entry]
) -> tuple[list[Job], list[Result]]:
    """What is to be run, and the results of what an earlier run has done of it."""
    jobs, kept = [], []
    for case, targets in work:
        left = []
        for target in targets:
            entry = earlier.get((case.id, str(target)))
            if entry is not None and entry.of == fingerprint(case, target, settings):
                kept.append(entry.result)
            else:
                left.append(target)
        if left:
            jobs.append(Job(case, tuple(left), settings, journal, scratch, Path.cwd()))
    return jobs, kept
