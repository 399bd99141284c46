"""The local engine: a pool of contained workers on this machine.

A worker that dies takes one check with it. Its case goes back to the pool with the checks that
are left, and the check that was in flight becomes a row that says how its worker died.
"""

from __future__ import annotations

import queue
import signal
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import psutil
from pebble import ProcessExpired, ProcessPool

from harness.engine.chatter import chatter_since
from harness.engine.job import Job, lost
from harness.engine.journal import JournalReader, Started
from harness.engine.limits import TIMED_OUT
from harness.errors import HarnessError, RuntimeMissing
from harness.result import Result, Symptom
from harness.verify.stages import OUT_OF_MEMORY

RETIRED = 86
CASES_A_WORKER = 400
WAITING_A_WORKER = 3
TRIES = 3
LOOKS_AT_THE_DEAD = 5
GRACE = 60.0


def warm_up(*, torch: bool) -> ForkServerContext:
    """Start loading the libraries in the background; call it as early as it is known that checks will run.

    ``torch`` is False where recorded models are all that is verified.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["harness.engine.preload" if torch else "harness.engine.preload_recorded"])
    forkserver.ensure_running()
    return context


class LocalEngine:
    """Runs jobs on ``workers`` processes and yields each result as soon as it is known."""

    def __init__(self, workers: int, journal: Path, scratch: Path) -> None:
        self._workers, self._scratch = workers, scratch
        journal.touch()
        self._journal = JournalReader(journal)
        self._in_flight: dict[str, Started] = {}
        self._left: dict[str, Job] = {}
        self._futures: dict[str, Future[None]] = {}
        self._tries: Counter[str] = Counter()
        self._looks: Counter[str] = Counter()
        self._waiting: deque[Job] = deque()

    def run(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """The results of all checks, in the order in which they are known.

        Raises :class:`RuntimeMissing` for a case of a spec where there is no torch, and :class:`HarnessError` where
        workers cannot be started at all. Leaving the generator stops the workers.
        """
        needs_torch = not all(job.is_recorded for job in jobs)
        if needs_torch and find_spec("torch") is None:
            right = "pip install 'parity-harness[cpu]', or name recorded models alone"
            raise RuntimeMissing(f"specs are verified against torch, which is not installed; {right}")
        self._waiting.extend(jobs)
        done: queue.SimpleQueue[str] = queue.SimpleQueue()
        pool = _pool(self._workers, self._scratch, torch=needs_torch)
        try:
            while self._waiting or self._left:
                while self._waiting and len(self._left) < self._workers * WAITING_A_WORKER:
                    self._submit(pool, self._waiting.popleft(), done)
                try:
                    case = done.get(timeout=0.2)
                except queue.Empty:
                    yield from self._news()
                    self._look_for_the_dead()
                    continue
                yield from self._news()
                yield from self._settle(case)
        finally:
            pool.stop()
            pool.join()

    def _submit(self, pool: Any, job: Job, done: queue.SimpleQueue[str]) -> None:
        self._left[job.case.id] = job
        limit = job.settings.timeout
        backstop = None if limit is None else limit * len(job.targets) + GRACE
        future = self._futures[job.case.id] = pool.schedule(_work, args=[job], timeout=backstop)
        future.add_done_callback(lambda _done, case=job.case.id: done.put(case))

    def _look_for_the_dead(self) -> None:
        """Give up on jobs whose worker left with exit code 0, which the pool takes for a worker that was done.

        The pool sees every other death by itself, and is given some looks to do so, since it knows the exit code.
        """
        for case, started in self._in_flight.items():
            self._looks[case] = 0 if _lives(started.pid) else self._looks[case] + 1
            if self._looks[case] == LOOKS_AT_THE_DEAD:
                self._futures[case].cancel()

    def _news(self) -> Iterator[Result]:
        """What the workers have written since the last look."""
        for record in self._journal.new():
            if isinstance(record, Started):
                self._in_flight[record.case] = record
                continue
            self._in_flight.pop(record.case, None)
            job = self._left[record.case]
            left = tuple(target for target in job.targets if str(target) != record.target)
            self._left[record.case] = replace(job, targets=left)
            yield record

    def _settle(self, case: str) -> Iterator[Result]:
        """A job came back: done, or with its worker dead and some checks left."""
        job, error = self._left.pop(case), _error_of(self._futures.pop(case))
        started = self._in_flight.pop(case, None)
        self._looks.pop(case, None)
        if not job.targets:
            return
        if error is None or not isinstance(error, ProcessExpired | TimeoutError | CancelledError):
            raise HarnessError(f"the worker of {case} came back with checks undone: {error!r}") from error
        if started is not None:
            yield _epitaph(job, started, error)
            job = replace(job, targets=tuple(target for target in job.targets if str(target) != started.target))
        elif getattr(error, "exitcode", None) != RETIRED:
            self._tries[case] += 1
            if self._tries[case] >= TRIES:
                raise HarnessError(f"workers die before they begin {case}: {error}; run harness doctor")
        if job.targets:
            self._waiting.appendleft(job)


def _pool(workers: int, scratch: Path, *, torch: bool) -> Any:
    return ProcessPool(
        max_workers=workers,
        max_tasks=CASES_A_WORKER,
        initializer=_start,
        initargs=(scratch,),
        context=warm_up(torch=torch),
    )


def _start(scratch: Path) -> None:
    from harness.engine.worker import start

    start(scratch)


def _work(job: Job) -> None:
    from harness.engine.worker import work

    work(job)


def _error_of(future: Future[None]) -> BaseException | None:
    return CancelledError() if future.cancelled() else future.exception()


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _epitaph(job: Job, started: Started, error: BaseException) -> Result:
    """The row of the check that was in flight when its worker died."""
    log = chatter_since(Path(started.log), started.offset)
    symptom, message = _cause(job, error, log)
    return lost(job, started.target, started.stage, symptom, message, log)


def _cause(job: Job, error: BaseException, log: tuple[str, ...]) -> tuple[Symptom, str]:
    code = getattr(error, "exitcode", None)
    if isinstance(error, TimeoutError) or code == TIMED_OUT:
        return "timeout", f"not done after {job.settings.timeout:g} s; --timeout sets the limit"
    if any(sign in line.lower() for line in log for sign in OUT_OF_MEMORY):
        return "out-of-memory", "the process ended for want of memory; --memory sets the limit"
    if code is not None and code < 0:
        return "crash", f"the process was ended by {signal.Signals(-code).name}"
    return "crash", f"the process ended itself with exit code {code or 0}"
