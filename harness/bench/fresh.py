"""Fresh processes, one after another: nothing of one measurement is left when the next begins."""

from __future__ import annotations

from multiprocessing.connection import Connection, wait

import psutil

from harness.bench.task import Taken, Task
from harness.engine.descendants import end_those_of
from harness.engine.exits import how
from harness.engine.limits import TIMED_OUT
from harness.engine.server import warm_up
from harness.verify.settings import seconds_for
from harness.verify.stages import message_of

GRACE = 60.0
TOO_LONG = "not done in its time; --timeout sets the limit"


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
            if not wait([ours], None if limit is None else limit + _most_for_size(task) + GRACE):
                return TOO_LONG
            answer: Taken | str = ours.recv()
        except EOFError:
            process.join()
            code = process.exitcode or 0
            return TOO_LONG if code == TIMED_OUT else how(code)
        finally:
            process.kill()
            process.join()
            if process.pid is not None and task.case.runs_own_code:
                end_those_of(process.pid)
            ours.close()
        return answer


def seconds_allowed(task: Task) -> float | None:
    """Each target may take as long as a check, and the measuring ten times its share; None is no limit."""
    timeout = task.settings.timeout
    return None if timeout is None else timeout * len(task.targets) + 10 * task.bench.budget_s


def _most_for_size(task: Task) -> float:
    """So much longer may the largest model take that this machine could hold; how large it is, its process knows."""
    return seconds_for(int(psutil.virtual_memory().total), task.settings) * len(task.targets)


def _take(pipe: Connection, task: Task, seconds: float | None) -> None:
    from harness.bench.process import take
    from harness.engine.descendants import become_their_ancestor
    from harness.engine.limits import die_with_parent, extend, limited

    die_with_parent()
    become_their_ancestor()
    longer = 0

    def sized(size: int) -> None:
        nonlocal longer
        more = max(0, seconds_for(size, task.settings) * len(task.targets) - longer)
        extend(more)
        longer += more

    try:
        with limited(seconds, task.settings.memory):
            answer: Taken | str = take(task, sized)
    except BaseException as error:  # noqa: BLE001 - what a library raised in here is told, in words
        answer = message_of(error)
    pipe.send(answer)
