"""The local engine: runs jobs in contained workers on this machine.

A worker that dies takes one check with it. The check in flight becomes a row that says how its worker died, and the
next worker gets the other checks of the job. A crash counts only in a fresh worker, so that a later check is not blamed
for what an earlier one broke.

A check may also kill the server that all workers come from, and they die with it. The server is then started anew, and
each job that was running is run alone. The crash counts for the check that causes it again.
"""

from __future__ import annotations

import queue
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from pathlib import Path

from harness.check.cache.disk_space import check_free_space
from harness.engine.job import Job, fingerprint, lost_check_result
from harness.engine.journal import Entry, JournalReader, JournalWriter
from harness.engine.processes.exits import SERVER_LOST, describe_exit, killed_note
from harness.engine.processes.fork_server import SERVER, cannot_start_error, start_server
from harness.engine.worker_slot import Workers, WorkerSlot
from harness.engine.worker_status import RETIRED, WorkerExit
from harness.environment import install_command
from harness.errors import HarnessError, RuntimeMissing
from harness.result import Symptom

POLL_SECONDS = 0.2
MAX_ATTEMPTS = 3


class LocalEngine:
    """Runs jobs on ``count`` processes and yields each entry of the journal as soon as it is written.

    ``workers`` are those of earlier engines; without them, all are started anew, with their files in ``scratch``.
    """

    def __init__(self, count: int, journal: Path, scratch: Path, workers: Workers | None = None) -> None:
        self._count, self._workers = count, workers or Workers(scratch)
        self._writer, self._journal = JournalWriter(journal), JournalReader(journal)
        self._slots: list[WorkerSlot] = []
        self._waiting: deque[Job] = deque()
        self._waiting_to_run_alone: deque[Job] = deque()
        self._running_alone: Job | None = None
        self._server_at_start: dict[str, int] = {}
        self._requested: dict[str, set[str]] = {}
        self._finished: dict[str, set[str]] = {}
        self._attempts: Counter[str] = Counter()
        self._done_slots: queue.SimpleQueue[WorkerSlot] = queue.SimpleQueue()

    def run(self, jobs: Sequence[Job]) -> Generator[Entry, None, None]:
        """Yield the entries of all checks, in the order in which they finish.

        Raises :class:`RuntimeMissing` for a case of a spec where torch is not installed, and :class:`HarnessError`
        where workers cannot be started, or cannot write their results. Closing the generator stops the workers.
        """
        try:
            yield from self.run_and_keep_workers(jobs)
        finally:
            self.close()

    def run_and_keep_workers(self, jobs: Sequence[Job]) -> Iterator[Entry]:
        """As :meth:`run`, but the workers stay for further jobs. Call :meth:`close` if it is left before its end."""
        needs_torch = not all(job.is_recorded for job in jobs)
        if needs_torch and find_spec("torch") is None:
            fix = f"install with: {install_command('torch', 'onnxscript')}; or name recorded models alone"
            raise RuntimeMissing(f"specs are verified against torch, which is not installed; {fix}")
        self._waiting.extend(jobs)
        self._requested.update((job.case.id, set(map(str, job.targets))) for job in jobs)
        self._finished.update((job.case.id, set()) for job in jobs)
        start_server(torch=needs_torch, exporting=any(job.needs_preparation for job in jobs))
        SERVER.wait()
        while len(self._slots) < min(self._count, len(jobs)):
            self._slots.append(self._workers.take(self._done_slots.put))
        self._assign_jobs()
        while any(slot.job for slot in self._slots):
            yield from self._step()

    def close(self) -> None:
        """End the workers, whatever they are doing; idle ones of ``workers`` may stay."""
        SERVER.resume_if_stopped()
        self._workers.release(self._slots)
        self._journal.close()
        self._writer.close()

    def _step(self) -> Iterator[Entry]:
        """Handle the next job that ends, or poll the workers if none ends for a moment."""
        try:
            slot = self._done_slots.get(timeout=POLL_SECONDS)
        except queue.Empty:
            SERVER.resume_if_stopped()
            for slot in self._slots:
                slot.poll()
            yield from self._new_entries()
        else:
            job, outcome = slot.take_result()
            if outcome is None:
                self._assign_jobs(after=job)
            yield from self._new_entries()
            yield from self._finish_job(job, outcome)
            self._assign_jobs(after=job)

    def _assign_jobs(self, after: Job | None = None) -> None:
        """Give each idle worker its next job. A job that must run alone is the only one until it has ended."""
        if after is not None and after is self._running_alone:
            self._running_alone = None
        for slot in self._slots:
            if slot.job is not None or self._running_alone is not None:
                continue
            if not self._waiting_to_run_alone:
                if self._waiting:
                    self._assign(slot, self._waiting.popleft())
            elif not any(each.job for each in self._slots):
                self._running_alone = self._waiting_to_run_alone.popleft()
                self._assign(slot, self._running_alone)

    def _assign(self, slot: WorkerSlot, job: Job) -> None:
        self._server_at_start[job.case.id] = SERVER.starts
        SERVER.resume_if_stopped()
        try:
            slot.submit(job)
        except BrokenProcessPool as error:
            cause = error.__cause__ or error
            raise cause if isinstance(cause, HarnessError) else cannot_start_error(cause) from error

    def _new_entries(self) -> Iterator[Entry]:
        """The entries written since the last call, without checks that were not requested or are finished already."""
        for entry in self._journal.new_entries():
            case, target = entry.result.case, entry.result.target
            if target in self._requested.get(case, ()) and target not in self._finished[case]:
                self._finished[case].add(target)
                yield entry

    def _finish_job(self, job: Job, outcome: WorkerExit | Entry | HarnessError | None) -> Iterator[Entry]:
        """Handle a job's end. What is left of it comes before all other jobs, in a fresh worker."""
        if isinstance(outcome, HarnessError):
            raise outcome
        if outcome is None:
            return
        server_lost = False
        if isinstance(outcome, Entry):  # its worker could not write it, maybe because of the check
            self._writer.end_torn_line()
            self._writer.add(outcome)
            yield from self._new_entries()
        elif not (server_lost := self._server_was_lost(job, outcome)):
            yield from self._record_lost_check(job, outcome, *outcome.cause(job))
        elif job is self._running_alone:
            yield from self._record_lost_check(job, outcome, "crash", describe_exit(SERVER_LOST))
        rest = job.without(self._finished[job.case.id])
        if rest.targets:
            (self._waiting_to_run_alone if server_lost else self._waiting).appendleft(rest)

    def _server_was_lost(self, job: Job, worker_exit: WorkerExit) -> bool:
        """True where the server was killed while the job was running; there is a new one then.

        Raises :class:`WorkersCannotStart` where no new one can be started.
        """
        number, reported = self._server_at_start[job.case.id], worker_exit.exit_code == SERVER_LOST
        if reported:
            SERVER.discard_lost(number)
        SERVER.wait()
        return reported or SERVER.starts != number

    def _record_lost_check(self, job: Job, worker_exit: WorkerExit, symptom: Symptom, message: str) -> Iterator[Entry]:
        """Record the check in flight, unless an earlier check may be the cause: then it is tried again."""
        check = worker_exit.check
        if check is None:
            self._count_attempt(job, worker_exit)
            return
        target = job.targets[check.target]
        if symptom == "crash":  # some libraries end the process where the disk is full
            check_free_space(job.settings.cache or job.scratch)
        if symptom != "crash" or not check.checks_before:
            notes = killed_note(worker_exit.killed_processes)
            how = (check.stage, symptom, message, worker_exit.log, notes)
            verdict = worker_exit.verdict
            result = lost_check_result(job, target, *how) if verdict is None else verdict.lost(*how)
            self._writer.add(Entry(result, fingerprint(job.case, target, job.settings)))
            yield from self._new_entries()

    def _count_attempt(self, job: Job, worker_exit: WorkerExit) -> None:
        """Raises :class:`HarnessError` for a job whose workers die again and again without a check in flight."""
        if worker_exit.exit_code == RETIRED:
            return
        self._attempts[job.case.id] += 1
        if self._attempts[job.case.id] >= MAX_ATTEMPTS:
            raise HarnessError(
                f"workers die before they begin {job.case.id}: {worker_exit.description}; run harness doctor"
            )
