"""The local engine: contained workers on this machine.

A worker that dies takes one check with it. The other checks of its job are given to the next
worker, and the check that was in flight becomes a row that says how its worker died. A crash is
believed of a fresh worker only: what an earlier check broke must not fall on a later one.

A check may also kill the server that all workers come from, and they die with it. The server is then started anew, and
each job that was at work is done alone: the loss is believed of the check that it happens to again.
"""

from __future__ import annotations

import queue
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from pathlib import Path

from harness.check.cache.disk_space import see_room
from harness.engine.job import Job, fingerprint, lost
from harness.engine.journal import Entry, JournalReader, JournalWriter
from harness.engine.processes.exits import SERVER_LOST, how, told
from harness.engine.processes.fork_server import SERVER, cannot_start, warm_up
from harness.engine.worker_slot import WorkerSlot
from harness.engine.worker_status import RETIRED, WorkerExit
from harness.errors import HarnessError, RuntimeMissing
from harness.result import Symptom

LOOK = 0.2
TRIES = 3


class LocalEngine:
    """Runs jobs on ``workers`` processes and yields each entry of the journal as soon as it is written."""

    def __init__(self, workers: int, journal: Path, scratch: Path) -> None:
        self._workers, self._scratch = workers, scratch
        self._writer, self._journal = JournalWriter(journal), JournalReader(journal)
        self._seats: list[WorkerSlot] = []
        self._waiting: deque[Job] = deque()
        self._suspects: deque[Job] = deque()
        self._alone: Job | None = None
        self._given_at: dict[str, int] = {}
        self._asked: dict[str, set[str]] = {}
        self._done: dict[str, set[str]] = {}
        self._tries: Counter[str] = Counter()
        self._ended: queue.SimpleQueue[WorkerSlot] = queue.SimpleQueue()

    def run(self, jobs: Sequence[Job]) -> Iterator[Entry]:
        """What all checks came to, in the order in which it is known.

        Raises :class:`RuntimeMissing` for a case of a spec where there is no torch, and :class:`HarnessError` where
        workers cannot be started, or cannot write down what they find. Leaving the generator stops the workers.
        """
        try:
            yield from self.carry_out(jobs)
        finally:
            self.close()

    def carry_out(self, jobs: Sequence[Job]) -> Iterator[Entry]:
        """As :meth:`run`, but the workers stay for further jobs. Who leaves it before its end has to :meth:`close`."""
        needs_torch = not all(job.is_recorded for job in jobs)
        if needs_torch and find_spec("torch") is None:
            right = "pip install 'parity-harness[cpu]', or name recorded models alone"
            raise RuntimeMissing(f"specs are verified against torch, which is not installed; {right}")
        self._waiting.extend(jobs)
        self._asked.update((job.case.id, set(map(str, job.targets))) for job in jobs)
        self._done.update((job.case.id, set()) for job in jobs)
        warm_up(torch=needs_torch, exporting=any(job.needs_preparation for job in jobs))
        SERVER.wait()
        for at in range(len(self._seats), min(self._workers, len(jobs))):
            self._seats.append(WorkerSlot(self._scratch / f"worker-{at}", self._ended.put))
        self._give_out()
        while any(slot.job for slot in self._seats):
            yield from self._next()

    def close(self) -> None:
        """Stop the workers, whatever they are doing."""
        SERVER.let_go_on()
        for slot in self._seats:
            slot.stop()
        for slot in self._seats:
            slot.close()
        self._journal.close()
        self._writer.close()

    def _next(self) -> Iterator[Entry]:
        """What happens until a job is at its end, or for a moment."""
        try:
            slot = self._ended.get(timeout=LOOK)
        except queue.Empty:
            SERVER.let_go_on()
            for slot in self._seats:
                slot.look()
            yield from self._news()
        else:
            job, end = slot.outcome()
            if end is None:
                self._give_out(after=job)
            yield from self._news()
            yield from self._settle(job, end)
            self._give_out(after=job)

    def _give_out(self, after: Job | None = None) -> None:
        """Let every worker that has nothing to do have the next job; a suspect is alone until it is at its end."""
        if after is not None and after is self._alone:
            self._alone = None
        for slot in self._seats:
            if slot.job is not None or self._alone is not None:
                continue
            if not self._suspects:
                if self._waiting:
                    self._give(slot, self._waiting.popleft())
            elif not any(each.job for each in self._seats):
                self._alone = self._suspects.popleft()
                self._give(slot, self._alone)

    def _give(self, slot: WorkerSlot, job: Job) -> None:
        self._given_at[job.case.id] = SERVER.starts
        SERVER.let_go_on()
        try:
            slot.give(job)
        except BrokenProcessPool as error:
            cause = error.__cause__ or error
            raise cause if isinstance(cause, HarnessError) else cannot_start(cause) from error

    def _news(self) -> Iterator[Entry]:
        """What was written since the last look; of a check that nobody asked for, or has been told, nothing is told."""
        for entry in self._journal.new():
            case, target = entry.result.case, entry.result.target
            if target in self._asked.get(case, ()) and target not in self._done[case]:
                self._done[case].add(target)
                yield entry

    def _settle(self, job: Job, end: WorkerExit | Entry | HarnessError | None) -> Iterator[Entry]:
        """A job is at its end; what is left of it is done before all others, by a worker that has done nothing yet."""
        if isinstance(end, HarnessError):
            raise end
        if end is None:
            return
        lost = False
        if isinstance(end, Entry):  # its worker could not write it, which may be the doing of its check
            self._writer.mend()
            self._writer.add(end)
            yield from self._news()
        elif not (lost := self._lost_server(job, end)):
            yield from self._mourn(job, end, *end.cause(job))
        elif job is self._alone:
            yield from self._mourn(job, end, "crash", how(SERVER_LOST))
        left = job.without(self._done[job.case.id])
        if left.targets:
            (self._suspects if lost else self._waiting).appendleft(left)

    def _lost_server(self, job: Job, worker_exit: WorkerExit) -> bool:
        """True where the server was killed while the job was at work; there is a new one then.

        Raises :class:`WorkersCannotStart` where there can be none.
        """
        given_at, seen = self._given_at[job.case.id], worker_exit.exit_code == SERVER_LOST
        if seen:
            SERVER.end_lost(given_at)
        SERVER.wait()
        return seen or SERVER.starts != given_at

    def _mourn(self, job: Job, worker_exit: WorkerExit, symptom: Symptom, message: str) -> Iterator[Entry]:
        """The check that was in flight is told, or tried again where something before it may be to blame."""
        check = worker_exit.check
        if check is None:
            self._count(job, worker_exit)
            return
        target = job.targets[check.target]
        if symptom == "crash":  # some libraries end the process where the disk is full
            see_room(job.settings.cache or job.scratch)
        if symptom != "crash" or not check.before:
            result = lost(job, target, check.stage, symptom, message, worker_exit.log, told(worker_exit.ended))
            self._writer.add(Entry(result, fingerprint(job.case, target, job.settings)))
            yield from self._news()

    def _count(self, job: Job, worker_exit: WorkerExit) -> None:
        """A job that comes back and back without a check to blame is not run for ever."""
        if worker_exit.exit_code == RETIRED:
            return
        self._tries[job.case.id] += 1
        if self._tries[job.case.id] >= TRIES:
            raise HarnessError(f"workers die before they begin {job.case.id}: {worker_exit.how}; run harness doctor")
