"""A place for one worker: a pool of one process, so that the run knows whose worker died and who comes after it.

pebble starts the worker, hands it its job, sees it die, ends it where it takes too long, and puts a new one in
its place. A seat has one job at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import ForkServerContext
from pathlib import Path

import psutil
from pebble import CONSTS, ProcessExpired, ProcessPool

from harness.engine.chatter import Chatter
from harness.engine.death import Death
from harness.engine.job import Job
from harness.engine.whereabouts import Whereabouts
from harness.errors import HarnessError

JOBS_A_WORKER = 400
GRACE = 60.0
LOOKS_AT_THE_DEAD = 3
DEATHS = (ProcessExpired, TimeoutError, CancelledError, BrokenProcessPool)
# Ctrl-C is to be answered at once, also where a worker does not heed the pool's SIGTERM.
CONSTS.term_timeout = 0.5


class Seat:
    """Where one worker works; ``done`` is called with the seat when its job is at its end, one way or another."""

    def __init__(self, folder: Path, context: ForkServerContext, done: Callable[[Seat], None]) -> None:
        folder.mkdir()
        self._folder, self._context, self._done = folder, context, done
        self._chatter, self._whereabouts = Chatter(folder / "chatter"), Whereabouts(folder / "whereabouts")
        self._pool = self._opened()
        self._looks = 0
        self._future: Future[HarnessError | None] | None = None
        self.job: Job | None = None

    def give(self, job: Job) -> None:
        """Let the worker do ``job``."""
        if not self._pool.active:  # its worker died between two jobs
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool.join()
            self._pool = self._opened()
        limit = job.settings.timeout
        # The kernel ends a check at its limit; this is for what no limit covers, such as an object never freed.
        backstop = None if limit is None else limit * len(job.targets) + GRACE
        self.job, self._looks = job, 0
        self._future = self._pool.schedule(_work, args=[job], timeout=backstop)
        self._future.add_done_callback(lambda _future: self._done(self))

    def outcome(self) -> tuple[Job, Death | HarnessError | None]:
        """The job that is at its end, with how its worker died, or what kept it from being done, or None."""
        job, future = self.job, self._future
        assert job is not None, "a seat is asked once it is done"
        assert future is not None
        self.job = self._future = None
        error = CancelledError() if future.cancelled() else future.exception()
        check, log = self._whereabouts.check(), self._chatter.since(0)
        self._whereabouts.end()
        if error is None:
            return job, future.result()
        if not isinstance(error, DEATHS):
            return job, HarnessError(f"harness itself failed on {job.case.id}: {type(error).__name__}: {error}")
        return job, Death(error, check, log)

    def look(self) -> None:
        """Keep what the worker prints within bounds, and give its job up where the pool has lost it.

        That is where a worker leaves with exit code 0, which the pool takes for one that was done. It sees every other
        death by itself, and is given some looks to do so, since it knows the exit code.
        """
        self._chatter.bound()
        if self._future is None:
            return
        pid = self._whereabouts.pid()
        self._looks = 0 if not pid or _lives(pid) else self._looks + 1
        if self._looks >= LOOKS_AT_THE_DEAD or not self._pool.active:
            self._future.cancel()

    def stop(self) -> None:
        """End the worker at once, whatever it is doing; :meth:`close` waits until it is gone."""
        self._pool.stop()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Leave nothing of the worker."""
        self._pool.join()
        self._chatter.close()
        self._whereabouts.close()

    def _opened(self) -> ProcessPool:
        return ProcessPool(
            max_workers=1,
            max_tasks=JOBS_A_WORKER,
            initializer=_start,
            initargs=(self._folder,),
            context=self._context,
        )


def _start(folder: Path) -> None:
    from harness.engine import worker  # the run itself never needs what a worker loads

    worker.start(folder)


def _work(job: Job) -> HarnessError | None:
    from harness.engine import worker

    return worker.do(job)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
