"""Fresh processes, one after another: nothing of one measurement is left when the next begins."""

from __future__ import annotations

import signal
from multiprocessing.connection import Connection, wait

from harness.bench.task import Taken, Task
from harness.engine.server import warm_up
from harness.verify.stages import message_of

GRACE = 60.0


class FreshProcesses:
    """Takes measurements, each in a process of its own that ends with it; never two at once."""

    def __init__(self, *, torch: bool) -> None:
        """``torch`` is False where recorded models are all that is timed."""
        self._context = warm_up(torch=torch)

    def take(self, task: Task) -> Taken | str:
        """What the process measured, or why it did not come to that."""
        limit = seconds_allowed(task)
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_take, args=(theirs, task, limit), daemon=True)
        process.start()
        theirs.close()
        try:
            if not wait([ours], None if limit is None else limit + GRACE):
                return f"not done after {limit:g} s"
            answer: Taken | str = ours.recv()
        except EOFError:
            process.join()
            return _last_words(process.exitcode or 0)
        finally:
            process.kill()
            process.join()
            ours.close()
        return answer


def seconds_allowed(task: Task) -> float | None:
    """Each target may take as long as a check, and the measuring ten times its share; None is no limit."""
    timeout = task.settings.timeout
    return None if timeout is None else timeout * len(task.targets) + 10 * task.bench.budget_s


def _last_words(code: int) -> str:
    if code < 0:
        return f"the process was ended by {signal.Signals(-code).name}"
    return f"the process ended itself with exit code {code}"


def _take(pipe: Connection, task: Task, seconds: float | None) -> None:
    from harness.bench.process import take
    from harness.engine.limits import die_with_parent, limited

    die_with_parent()
    try:
        with limited(seconds, task.settings.memory):
            answer: Taken | str = take(task)
    except BaseException as error:  # noqa: BLE001 - what a library raised in here is told, in words
        answer = message_of(error)
    pipe.send(answer)
