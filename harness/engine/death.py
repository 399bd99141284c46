"""How a worker came to its end, and what that says of the check that it was in."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.engine.exits import how
from harness.engine.job import Job
from harness.engine.limits import TIMED_OUT
from harness.engine.whereabouts import UNLIMITED, Allowed, Check
from harness.result import Symptom
from harness.verify.stages import OUT_OF_MEMORY

RETIRED = 86
"""The exit code of a worker that is sound enough to say that it had better be replaced."""
BROKEN = 70
"""The exit code of a worker that a check left unable to say what that check came to."""


@dataclass(frozen=True, slots=True)
class Death:
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
