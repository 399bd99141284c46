"""Fresh processes, one after another: nothing of one measurement is left when the next begins."""

from __future__ import annotations

from concurrent.futures import TimeoutError as TimedOut
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from pebble import ProcessExpired, ProcessPool

from harness.bench.task import Taken, Task
from harness.engine.local import warm_up
from harness.verify.stages import message_of

GRACE = 60.0


class FreshProcesses(AbstractContextManager["FreshProcesses"]):
    """Takes measurements, each in a process of its own that ends with it; never two at once."""

    def __init__(self, scratch: Path, *, torch: bool) -> None:
        """``torch`` is False where recorded models are all that is timed."""
        self._pool: Any = ProcessPool(
            max_workers=1, max_tasks=1, initializer=_start, initargs=(scratch,), context=warm_up(torch=torch)
        )

    def take(self, task: Task) -> Taken | str:
        """What the process measured, or why it did not come to that."""
        limit = seconds_allowed(task)
        try:
            taken: Taken = self._pool.schedule(_take, args=[task, limit], timeout=limit and limit + GRACE).result()
        except (TimedOut, ProcessExpired) as error:
            return f"the process did not finish: {error}" if str(error) else "the process did not finish"
        except Exception as error:  # noqa: BLE001 - what a library raised in there is told, in words
            return message_of(error)
        return taken

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the process that is at work, if any."""
        self._pool.stop()
        self._pool.join()


def seconds_allowed(task: Task) -> float | None:
    """Each target may take as long as a check, and the measuring ten times its share; None is no limit."""
    timeout = task.settings.timeout
    return None if timeout is None else timeout * len(task.targets) + 10 * task.bench.budget_s


def _start(scratch: Path) -> None:
    from harness.engine.worker import start

    start(scratch)


def _take(task: Task, seconds: float | None) -> Taken:
    from harness.bench.process import take
    from harness.engine.limits import limited

    with limited(seconds, task.settings.memory):
        return take(task)
