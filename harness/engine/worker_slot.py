"""A slot for one worker: a pool of one process, so that the run knows which worker died and which one replaces it.

pebble starts the worker, passes it its job, notices its death, ends it where it takes too long, and replaces it. A slot
has one job at a time.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any

from pebble import CONSTS, ProcessExpired, ProcessPool

from harness.engine.job import Job
from harness.engine.journal import Entry
from harness.engine.processes.exits import has_ended, kill_descendants_of
from harness.engine.processes.fork_server import ServerContext, WorkerProcess
from harness.engine.processes.output_capture import OutputCapture
from harness.engine.worker_status import RETIRED, WorkerExit, WorkerStatus
from harness.errors import HarnessError

JOBS_PER_WORKER = 400
GRACE = 60.0
"""Seconds after a check's deadline in which its worker must be gone by itself."""
REMEMBERED_WORKERS = 8
WORKER_LOST = (ProcessExpired, CancelledError, BrokenProcessPool)
# Ctrl-C must have its effect at once, also where a worker ignores the pool's SIGTERM.
CONSTS.term_timeout = 0.5
# A worker that retires must be replaced at once: checks wait for the next one. The pool looks for its end so often.
CONSTS.sleep_unit = 0.01


class Worker(WorkerProcess):
    """A worker of the pool, whose exit code is known as soon as the pool has seen its end, as the kernel reports it.

    A process of many GiB takes seconds to end, in which it neither works nor is gone; and the pool does not report a
    process that ends with exit code 0. Only the pool may ask for the exit code: it can be read once.
    """

    final_exit_code: int | None = None

    def is_alive(self) -> bool:
        """See ``BaseProcess``."""
        alive = super().is_alive()
        if not alive:
            self.final_exit_code = self.exitcode
        return alive


class PoolContext(ServerContext):
    """The multiprocessing context of one pool: starts its workers, and finds them by their process id."""

    def __init__(self) -> None:
        super().__init__()
        self._started: list[Worker] = []

    def Process(self, *args: Any, **named: Any) -> Worker:  # type: ignore[override]  # noqa: N802 - a context's own name
        """Return a new worker; of those before it, the last few are remembered."""
        self._started = [*self._started[-REMEMBERED_WORKERS:], Worker(*args, **named)]
        return self._started[-1]

    def worker(self, pid: int) -> Worker | None:
        """The worker with that process id, also where it has ended; None where there is none."""
        return next((worker for worker in reversed(self._started) if pid and worker.pid == pid), None)

    def exit_code(self, pid: int) -> int | None:
        """The exit code of the worker with that process id; None where it is not known to have ended."""
        worker = self.worker(pid)
        return None if worker is None else worker.final_exit_code


class WorkerSlot:
    """Runs jobs on one worker. ``done`` is called with the slot when its job has ended, in whatever way."""

    def __init__(self, folder: Path, done: Callable[[WorkerSlot], None]) -> None:
        folder.mkdir()
        self._folder, self.done = folder, done
        self._capture, self._status = OutputCapture(folder / "capture"), WorkerStatus(folder / "status")
        self._context = PoolContext()
        self._pool = self._new_pool()
        self._overdue = False
        self._future: Future[Entry | HarnessError | None] | None = None
        self.job: Job | None = None

    def submit(self, job: Job) -> None:
        """Start ``job`` on the worker."""
        if not self._pool.active:  # its worker died between two jobs, or was stopped because of a check
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool.join()
            self._pool = self._new_pool()
        self.job, self._overdue = job, False
        self._future = self._pool.schedule(_run_job, args=[job])
        self._future.add_done_callback(lambda _future: self.done(self))

    def take_result(self) -> tuple[Job, WorkerExit | Entry | HarnessError | None]:
        """Return the job that has ended, and free the slot. Call it once after ``done``.

        With the job comes None where it ran to its end, how its worker died, the error that kept it from running, or an
        entry that the worker could not write.
        """
        job, future = self.job, self._future
        assert job is not None, "the slot has no job"
        assert future is not None
        self.job = self._future = None
        error = CancelledError() if future.cancelled() else future.exception()
        if error is None:
            self._status.set_idle()
            if isinstance(future.result(), Entry):
                self._pool.stop()  # type: ignore[no-untyped-call]  # a worker that cannot write is of no more use
            return job, future.result()
        if not isinstance(error, WORKER_LOST):
            self._status.set_idle()
            return job, HarnessError(f"harness itself failed on {job.case.id}: {type(error).__name__}: {error}")
        pid, now = self._status.pid(), time.monotonic()
        code = int(error.exitcode) if isinstance(error, ProcessExpired) else self._context.exit_code(pid)
        killed = kill_descendants_of(pid) if pid and job.runs_user_code and code != RETIRED else 0
        check, deadline, verdict = self._status.check(), self._status.deadline(), self._status.kept_verdict()
        self._status.set_idle()
        return job, WorkerExit(code, check, self._capture.read_from(0), deadline, now, self._overdue, killed, verdict)

    def poll(self) -> None:
        """Bound what the worker prints, kill it where it is long overdue, and notice where it has left.

        The kernel ends a check at its limit. The run does so where a check got round that, or where the process does
        not end. Where a worker leaves with exit code 0, the pool believes that it finished, and the job is cancelled
        here.
        """
        self._capture.limit_size()
        if self._future is None:
            return
        pid, until = self._status.pid(), self._status.deadline().until
        worker = self._context.worker(pid)
        # Without a worker, the server ended while it started this process, and the pool does not know it.
        is_lost = pid and worker is None and has_ended(pid)
        if is_lost or (worker and worker.final_exit_code == 0) or not self._pool.active:
            self._future.cancel()
        elif until and time.monotonic() > until + GRACE:
            self._overdue = True
            if worker is None:
                self._future.cancel()
            elif worker.pid and worker.final_exit_code is None:
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Stop the worker at once, whatever it is doing; :meth:`close` waits until it is gone."""
        self._pool.stop()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Wait for the worker's end, kill what it had started, and close the slot's files."""
        self._pool.join()
        if (pid := self._status.pid()) and self.job is not None and self.job.runs_user_code:
            kill_descendants_of(pid)
        self._capture.close()
        self._status.close()

    def _new_pool(self) -> ProcessPool:
        return ProcessPool(
            max_workers=1,
            max_tasks=JOBS_PER_WORKER,
            initializer=_start_worker,
            initargs=(self._folder,),
            context=self._context,
        )


class Workers:
    """The workers of one engine after another; up to ``keep`` idle ones stay, so that the next engine starts none.

    Their files are in ``folder``.
    """

    def __init__(self, folder: Path, keep: int = 0) -> None:
        self._folder, self._keep = folder, keep
        self._idle: list[WorkerSlot] = []
        self._started = 0

    def take(self, done: Callable[[WorkerSlot], None]) -> WorkerSlot:
        """An idle worker, or a new one; ``done`` as for :class:`WorkerSlot`."""
        if self._idle:
            slot = self._idle.pop()
            slot.done = done
            return slot
        self._started += 1
        return WorkerSlot(self._folder / f"worker-{self._started}", done)

    def release(self, slots: Sequence[WorkerSlot]) -> None:
        """Keep the idle ones of ``slots``, as many as may stay, and end the others, whatever they are doing."""
        idle = [slot for slot in slots if slot.job is None]
        kept = idle[: self._keep - len(self._idle)]
        self._idle += kept
        _end([slot for slot in slots if slot not in kept])

    def close(self) -> None:
        """End the workers that were kept."""
        _end(self._idle)
        self._idle = []


def _end(slots: Sequence[WorkerSlot]) -> None:
    for slot in slots:
        slot.stop()
    for slot in slots:
        slot.close()


def _start_worker(folder: Path) -> None:
    from harness.engine import worker  # the run itself never needs what a worker loads

    worker.start(folder)


def _run_job(job: Job) -> Entry | HarnessError | None:
    from harness.engine import worker

    return worker.run_job(job)
