"""All checks of a run, from the first to the last: the journal, what an earlier run left in it, and the engine."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from harness.check.cache.artifacts import open_cache
from harness.check.samples.sample_rows import progress_of_samples
from harness.check.settings import Settings
from harness.engine.cluster import Cluster, ClusterEngine
from harness.engine.job import Job, callables_of, fingerprint, sources_digest
from harness.engine.journal import Entry, JournalWriter, read_journal
from harness.engine.local import LocalEngine
from harness.engine.processes.limits import require_files, require_semaphores
from harness.engine.processes.temporary import temporary_folder
from harness.engine.worker_slot import Workers
from harness.environment import usable_cpus
from harness.errors import UsageError, interrupting_signal
from harness.result import Result
from harness.spec.language.case import Case
from harness.spec.targets import Target

JOURNAL = "journal.jsonl"
SAMPLES = "samples"
"""The folder of the rows of samples, beside the journal."""
TELL_SECONDS = 10.0
"""How often a run tells how many samples of its checks are done."""
CheckKey = tuple[str, str]
"""The case's id and the target."""
CasesWithTargets = Sequence[tuple[Case, tuple[Target, ...]]]


class ProgressListener(Protocol):
    """Is notified while checks run."""

    def advance(self, result: Result) -> None:
        """One more result is known."""
        ...


@dataclass
class RunState:
    """The results so far; ``interrupted_by`` is the signal that stopped the run before its end, if any.

    ``exported`` counts the files that were exported, ``reused`` those that came from the cache.
    """

    results: list[Result] = field(default_factory=list)
    interrupted_by: signal.Signals | None = None
    exported: int = 0
    reused: int = 0

    def add(self, entry: Entry) -> None:
        """Add one more check."""
        self.results.append(entry.result)
        self.exported += entry.exported
        self.reused += entry.reused


class Engine(Protocol):
    """Runs checks."""

    def run(self, jobs: Sequence[Job]) -> Generator[Entry, None, None]:
        """Yield the entries of all checks of ``jobs``, each as soon as it is in the journal. Closing it ends them."""
        ...


def run_jobs(
    cases: CasesWithTargets,
    settings: Settings,
    workers: int,
    folder: Path,
    listener: ProgressListener,
    *,
    resume: bool,
    cluster: Cluster | None = None,
    kept: Workers | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> RunState:
    """Run all checks of ``cases`` and write each result into a journal in ``folder``, line by line.

    They run on ``workers`` processes of this machine, or on one for each CPU if that is 0, of which ``kept`` may hold
    some; or on the machines of ``cluster``.

    After each check, ``enough`` may end the run early. With ``resume``, the checks in an earlier journal are not run
    again. Raises :class:`UsageError` before anything runs where the folder or the cache cannot be written to, or
    another run uses the folder.
    """
    state = RunState()
    workers = workers or usable_cpus()
    jobs: list[Job] = []
    journal: Path | None = None
    _open_cache(settings.cache)
    if cluster is None:
        require_files(min(workers, max(1, len(cases))))
        require_semaphores()
    try:
        with _journal(folder) as journal, temporary_folder() as scratch:
            earlier = _earlier_entries(journal, resume=resume)
            samples = journal.parent / SAMPLES
            if not resume:
                shutil.rmtree(samples, ignore_errors=True)
            of_run = replace(settings, concurrent=workers, samples=samples if cluster is None else None)
            jobs, resumed = _jobs(cases, of_run, journal, scratch, earlier)
            for result in resumed:
                state.results.append(result)
                listener.advance(result)
            jobs = [] if enough() else jobs
            engine: Engine = LocalEngine(min(workers, max(1, len(jobs))), journal, scratch, kept)
            if cluster is not None:
                engine = ClusterEngine(cluster, journal)
            with _telling_samples(listener, samples, jobs), closing(engine.run(jobs)) as entries:
                for entry in entries:
                    state.add(entry)
                    listener.advance(entry.result)
                    if enough():
                        break
    except KeyboardInterrupt as error:
        if journal is None:  # the folder may be another run's
            raise
        state.interrupted_by = interrupting_signal(error)
        for entry in _unread_entries(state.results, jobs, read_journal(journal)):
            state.add(entry)
    return state


def _unread_entries(results: Sequence[Result], jobs: Sequence[Job], journal: Mapping[CheckKey, Entry]) -> list[Entry]:
    """The entries that the workers wrote and the run had not read when it was stopped."""
    unread = {(job.case.id, str(target)): (job, target) for job in jobs for target in job.targets}
    for result in results:
        unread.pop((result.case, result.target), None)
    entries = [(entry, *unread[key]) for key, entry in journal.items() if key in unread]
    return [entry for entry, job, target in entries if entry.fingerprint == fingerprint(job.case, target, job.settings)]


def remove_journal(folder: Path) -> None:
    """Remove the journal once the report is written: there is nothing left to resume."""
    (folder / JOURNAL).unlink(missing_ok=True)
    shutil.rmtree(folder / SAMPLES, ignore_errors=True)


@contextmanager
def _telling_samples(listener: ProgressListener, folder: Path, jobs: Sequence[Job]) -> Iterator[None]:
    """Tell the listener now and then how many samples are done, where a check has many and the listener wants it."""
    tell = getattr(listener, "tell", None)
    if tell is None or not any(job.case.data is not None for job in jobs):
        yield
        return
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(TELL_SECONDS):
            for line in progress_of_samples(folder):
                tell(line)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _open_cache(cache: Path | None) -> None:
    if cache is None:
        return
    try:
        open_cache(cache)
    except OSError as error:
        fix = "set HARNESS_CACHE to a folder that can be written, or use --no-cache"
        raise UsageError(f"cache {cache}: {error.strerror}; {fix}") from error


@contextmanager
def _journal(folder: Path) -> Iterator[Path]:
    """The journal in ``folder``, locked for this run."""
    lock = FileLock(folder / "journal.lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        JournalWriter(folder / JOURNAL).close()
    except Timeout as error:
        raise UsageError(f"--report-dir {folder}: another run uses this folder; name another one") from error
    except OSError as error:
        message = f"--report-dir {folder}: {error.strerror}; name a folder that can be written"
        raise UsageError(message) from error
    try:
        yield (folder / JOURNAL).resolve()
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _earlier_entries(journal: Path, *, resume: bool) -> Mapping[CheckKey, Entry]:
    """The journal's entries where the run resumes an earlier one; otherwise the journal is emptied."""
    if not resume:
        os.truncate(journal, 0)
        return {}
    writer = JournalWriter(journal)
    writer.end_torn_line()
    writer.close()
    return read_journal(journal)


def _jobs(
    cases: CasesWithTargets, settings: Settings, journal: Path, scratch: Path, earlier: Mapping[CheckKey, Entry]
) -> tuple[list[Job], list[Result]]:
    """The jobs to run, and the results of the checks that an earlier run has finished."""
    jobs, finished = [], []
    digests: dict[tuple[str, ...], str] = {}
    for case, targets in cases:
        if callables := callables_of(case):
            if callables not in digests:
                digests[callables] = sources_digest(callables)
            settings = replace(settings, sources=digests[callables])
        elif settings.sources:
            settings = replace(settings, sources="")
        remaining = []
        for target in targets:
            entry = earlier.get((case.id, str(target)))
            if entry is not None and entry.fingerprint == fingerprint(case, target, settings):
                finished.append(entry.result)
            else:
                remaining.append(target)
        if remaining:
            jobs.append(Job(case, tuple(remaining), settings, journal, scratch, Path.cwd()))
    return jobs, finished
