"""Where a worker is: a few numbers in memory shared with the run, which outlive the worker that wrote them.

How a worker came to its end, and what that says of the check that it was in.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from harness.check.stages import OUT_OF_MEMORY
from harness.engine.job import Job
from harness.engine.processes.exits import how
from harness.engine.processes.limits import TIMED_OUT
from harness.result import Stage, Symptom

STAGES: tuple[Stage, ...] = get_args(Stage)
RECORD = struct.Struct("=qqqqdd?")
PID, TIMES = struct.Struct("=q"), struct.Struct("=dd")
TIMES_AT = 32


@dataclass(frozen=True, slots=True)
class Check:
    """A check in flight: the number of its target in its job, its stage, and how many checks its worker ran before."""

    target: int
    stage: Stage
    before: int


@dataclass(frozen=True, slots=True)
class Allowed:
    """The seconds that the check in flight may take, and when they are over by the clock that all processes share.

    Infinite where there is no limit.
    """

    seconds: float = math.inf
    until: float = math.inf


UNLIMITED = Allowed()


class WorkerStatus:
    """One worker's numbers; the run and the worker each open the same ``path``."""

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as file:
            file.truncate(RECORD.size)
            self._shared = mmap.mmap(file.fileno(), RECORD.size)

    def begin(self, pid: int, allowed: Allowed) -> None:
        """The worker of that process has taken up a job, or is between two of its checks."""
        RECORD.pack_into(self._shared, 0, pid, 0, 0, 0, allowed.seconds, allowed.until, False)

    def enter(self, pid: int, target: int, stage: Stage, before: int, allowed: Allowed) -> None:
        """The worker came to ``stage`` of the check on its job's target number ``target``."""
        at = STAGES.index(stage)
        RECORD.pack_into(self._shared, 0, pid, target, at, before, allowed.seconds, allowed.until, True)

    def allow(self, allowed: Allowed) -> None:
        """The check in flight may take longer."""
        TIMES.pack_into(self._shared, TIMES_AT, allowed.seconds, allowed.until)

    def end(self) -> None:
        """No job is at work."""
        self.begin(0, UNLIMITED)

    def pid(self) -> int:
        """The process that is at work on a job, 0 where none is."""
        return int(PID.unpack_from(self._shared, 0)[0])

    def allowed(self) -> Allowed:
        """How long the check in flight may take; said of nothing where no job is at work."""
        return Allowed(*TIMES.unpack_from(self._shared, TIMES_AT))

    def check(self) -> Check | None:
        """The check in flight, None between checks."""
        _, target, stage, before, _, _, inside = RECORD.unpack_from(self._shared, 0)
        return Check(target, STAGES[stage], before) if inside else None

    def close(self) -> None:
        """Give the memory back."""
        self._shared.close()


RETIRED = 86
"""The exit code of a worker that is sound enough to say that it had better be replaced."""
BROKEN = 70
"""The exit code of a worker that a check left unable to say what that check came to."""


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """A worker ended before its job did.

    ``exit_code`` is negative for a signal; None where nobody can tell it any more. ``check`` is the check that it was
    in, ``allowed`` how long that might take, and ``at`` when the run saw the end of it, by the same clock; ``overdue``
    is True where it went on after that time, and the run ended it. ``log`` is what was printed meanwhile, and ``ended``
    the number of processes that it had started and that were ended after it.
    """

    exit_code: int | None
    check: Check | None
    log: tuple[str, ...] = ()
    allowed: Allowed = UNLIMITED
    at: float = math.inf
    overdue: bool = False
    ended: int = 0

    @property
    def how(self) -> str:
        """The worker's end in words."""
        if self.exit_code is None:
            return "the process ended, and how is not known"
        return how(self.exit_code)

    def cause(self, job: Job) -> tuple[Symptom, str]:
        """How the worker died, in the contract's word and in one line."""
        if self.overdue or (self.exit_code == TIMED_OUT and self.at >= self.allowed.until):
            seconds = self.allowed.seconds if math.isfinite(self.allowed.seconds) else job.settings.timeout
            return "timeout", f"not done after {seconds:g} s; --timeout sets the limit"
        if any(sign in line.lower() for line in self.log for sign in OUT_OF_MEMORY):
            return "out-of-memory", "the process ended for want of memory; --memory sets the limit"
        if self.exit_code == BROKEN:
            return "crash", "the check left its process unable to say what came of it; the log tells why"
        return "crash", self.how
