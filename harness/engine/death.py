"""How a worker came to its end, and what that says of the check that it was in."""

from __future__ import annotations

import signal
from concurrent.futures import CancelledError
from dataclasses import dataclass

from pebble import ProcessExpired

from harness.engine.job import Job
from harness.engine.limits import TIMED_OUT
from harness.engine.whereabouts import Check
from harness.result import Symptom
from harness.verify.stages import OUT_OF_MEMORY

RETIRED = 86
"""The exit code of a worker that is sound enough to say that it had better be replaced."""


@dataclass(frozen=True, slots=True)
class Death:
    """A worker ended before its job did. ``check`` is the check that it was in, ``log`` what was printed meanwhile."""

    error: BaseException
    check: Check | None
    log: tuple[str, ...]

    @property
    def exit_code(self) -> int | None:
        """Negative for a signal; None where the worker was stopped, or died before it had begun."""
        if isinstance(self.error, ProcessExpired):
            return int(self.error.exitcode)
        # The pool does not tell of a worker that leaves with 0: the run saw that it was gone, and gave its job up.
        return 0 if isinstance(self.error, CancelledError) else None

    def cause(self, job: Job) -> tuple[Symptom, str]:
        """How the worker died, in the contract's word and in one line."""
        code = self.exit_code
        if isinstance(self.error, TimeoutError) or code == TIMED_OUT:
            return "timeout", f"not done after {job.settings.timeout:g} s; --timeout sets the limit"
        if any(sign in line.lower() for line in self.log for sign in OUT_OF_MEMORY):
            return "out-of-memory", "the process ended for want of memory; --memory sets the limit"
        if code is not None and code < 0:
            return "crash", f"the process was ended by {_name_of(code)}"
        return "crash", f"the process ended itself with exit code {code or 0}"


def _name_of(code: int) -> str:
    """``SIGSEGV`` for -11."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
