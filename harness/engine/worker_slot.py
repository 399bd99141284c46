"""A place for one worker: a pool of one process, so that the run knows whose worker died and who comes after it.

pebble starts the worker, hands it its job, sees it die, ends it where it takes too long, and puts a new one in
its place. A slot has one job at a time.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any

from pebble import CONSTS, ProcessExpired, ProcessPool

from harness.engine.job import Job
from harness.engine.journal import Entry
from harness.engine.processes.exits import end_those_of
from harness.engine.processes.fork_server import ServerContext, WorkerProcess
from harness.engine.processes.output_capture import OutputCapture
from harness.engine.worker_status import RETIRED, WorkerExit, WorkerStatus
from harness.errors import HarnessError

JOBS_A_WORKER = 400
GRACE = 60.0
"""Seconds after the end of a check's time in which its worker must be gone by itself."""
REMEMBERED = 8
DEATHS = (ProcessExpired, CancelledError, BrokenProcessPool)
# Ctrl-C is to be answered at once, also where a worker does not heed the pool's SIGTERM.
CONSTS.term_timeout = 0.5


class Worker(WorkerProcess):
    """A worker of the pool's, whose exit code is known as soon as the pool has seen its end: the kernel's word alone.

    A process of many GiB takes seconds to end, in which it is neither at work nor gone; and of one that leaves with
    exit code 0 the pool tells nothing. Only the pool may ask for the exit code: it can be read once.
    """

    ended_with: int | None = None

    def is_alive(self) -> bool:
        """See ``BaseProcess``."""
        alive = super().is_alive()
        if not alive:
            self.ended_with = self.exitcode
        return alive


class Workers(ServerContext):
    """Starts the workers of one pool, and remembers them by their process."""

    def __init__(self) -> None:
        super().__init__()
        self._started: list[Worker] = []

    def Process(self, *args: Any, **named: Any) -> Worker:  # type: ignore[override]  # noqa: N802 - a context's own name
        """A new worker; of those before it, the last few are remembered."""
        self._started = [*self._started[-REMEMBERED:], Worker(*args, **named)]
        return self._started[-1]

    def of(self, pid: int) -> Worker | None:
        """The worker of that process, also where it has ended; None where it is none."""
        return next((worker for worker in reversed(self._started) if pid and worker.pid == pid), None)

    def exit_code(self, pid: int) -> int | None:
        """The exit code of the worker of that process; None where it is not known to have ended."""
        worker = self.of(pid)
        return None if worker is None else worker.ended_with


class WorkerSlot:
    """Where one worker works; ``done`` is called with the slot when its job is at its end, one way or another."""

    def __init__(self, folder: Path, done: Callable[[WorkerSlot], None]) -> None:
        folder.mkdir()
        self._folder, self._done = folder, done
        self._chatter, self._whereabouts = OutputCapture(folder / "capture"), WorkerStatus(folder / "status_record")
        self._workers = Workers()
        self._pool = self._opened()
        self._overdue = False
        self._future: Future[Entry | HarnessError | None] | None = None
        self.job: Job | None = None

    def give(self, job: Job) -> None:
        """Let the worker do ``job``."""
        if not self._pool.active:  # its worker died between two jobs, or was stopped for what a check did to it
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool.join()
            self._pool = self._opened()
        self.job, self._overdue = job, False
        self._future = self._pool.schedule(_work, args=[job])
        self._future.add_done_callback(lambda _future: self._done(self))

    def outcome(self) -> tuple[Job, WorkerExit | Entry | HarnessError | None]:
        """The job that is at its end, with how its worker died, or what kept it from being done, or None.

        An entry is one that the worker could not write.
        """
        job, future = self.job, self._future
        assert job is not None, "a slot is asked once it is done"
        assert future is not None
        self.job = self._future = None
        error = CancelledError() if future.cancelled() else future.exception()
        if error is None:
            self._whereabouts.end()
            if isinstance(future.result(), Entry):
                self._pool.stop()  # type: ignore[no-untyped-call]  # a worker that cannot write is of no more use
            return job, future.result()
        if not isinstance(error, DEATHS):
            self._whereabouts.end()
            return job, HarnessError(f"harness itself failed on {job.case.id}: {type(error).__name__}: {error}")
        pid, at = self._whereabouts.pid(), time.monotonic()
        code = int(error.exitcode) if isinstance(error, ProcessExpired) else self._workers.exit_code(pid)
        ended = end_those_of(pid) if pid and job.runs_own_code and code != RETIRED else 0
        check, allowed = self._whereabouts.check(), self._whereabouts.allowed()
        self._whereabouts.end()
        return job, WorkerExit(code, check, self._chatter.since(0), allowed, at, self._overdue, ended)

    def look(self) -> None:
        """Keep what the worker prints within bounds, end it where its time is long over, and see where it has left.

        The kernel ends a check at its limit; the run does where a check got round that, or an object is never freed.
        Where a worker leaves with exit code 0, the pool takes it for one that was done, and the job is given up here.
        """
        self._chatter.bound()
        if self._future is None:
            return
        worker, until = self._workers.of(self._whereabouts.pid()), self._whereabouts.allowed().until
        if (worker and worker.ended_with == 0) or not self._pool.active:
            self._future.cancel()
        elif worker and worker.pid and worker.ended_with is None and until and time.monotonic() > until + GRACE:
            self._overdue = True
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)

    def stop(self) -> None:
        """End the worker at once, whatever it is doing; :meth:`close` waits until it is gone."""
        self._pool.stop()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Leave nothing of the worker, nor of what it had started."""
        self._pool.join()
        if (pid := self._whereabouts.pid()) and self.job is not None and self.job.runs_own_code:
            end_those_of(pid)
        self._chatter.close()
        self._whereabouts.close()

    def _opened(self) -> ProcessPool:
        return ProcessPool(
            max_workers=1,
            max_tasks=JOBS_A_WORKER,
            initializer=_start,
            initargs=(self._folder,),
            context=self._workers,
        )


def _start(folder: Path) -> None:
    from harness.engine import worker  # the run itself never needs what a worker loads

    worker.start(folder)


def _work(job: Job) -> Entry | HarnessError | None:
    from harness.engine import worker

    return worker.do(job)
