"""The status of a worker, in memory shared with the run, which outlives the worker; and how a worker ended.

A verdict that is known before the check is done lies in a file beside it: the process may end while it finds the blame.
"""

from __future__ import annotations

import json
import math
import mmap
import re
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import get_args

from harness.check.stages import OUT_OF_MEMORY, FurtherWork
from harness.engine.job import Job
from harness.engine.processes.exits import describe_exit
from harness.engine.processes.limits import TIMED_OUT
from harness.result import Result, Stage, Symptom, result_from_json, to_json_line

STAGES: tuple[Stage, ...] = get_args(Stage)
# Process id, target, stage, checks before, seconds and end of the time limit, and whether a check is in flight.
RECORD = struct.Struct("=qqqqdd?")
PID, TIMES = struct.Struct("=q"), struct.Struct("=dd")
TIMES_OFFSET = 32


@dataclass(frozen=True, slots=True)
class CheckInFlight:
    """The index of the check's target in its job, its stage, and how many checks its worker ran before."""

    target: int
    stage: Stage
    checks_before: int


@dataclass(frozen=True, slots=True)
class Deadline:
    """The seconds that the check in flight may take, and their end by the monotonic clock that all processes share.

    Infinite where there is no limit.
    """

    seconds: float = math.inf
    until: float = math.inf


NO_DEADLINE = Deadline()


class WorkerStatus:
    """One worker's status; the run and the worker each open the same ``path``."""

    def __init__(self, path: Path) -> None:
        self._verdict = path.with_name("verdict.json")
        with path.open("a+b") as file:
            file.truncate(RECORD.size)
            self._shared = mmap.mmap(file.fileno(), RECORD.size)

    def set_between_checks(self, pid: int, deadline: Deadline) -> None:
        """The worker with that process id has started a job, or is between two of its checks."""
        RECORD.pack_into(self._shared, 0, pid, 0, 0, 0, deadline.seconds, deadline.until, False)

    def set_check(self, pid: int, target: int, stage: Stage, checks_before: int, deadline: Deadline) -> None:
        """The worker has entered ``stage`` of the check on target number ``target`` of its job."""
        stage_index = STAGES.index(stage)
        RECORD.pack_into(
            self._shared, 0, pid, target, stage_index, checks_before, deadline.seconds, deadline.until, True
        )

    def set_deadline(self, deadline: Deadline) -> None:
        """The check in flight may take longer."""
        TIMES.pack_into(self._shared, TIMES_OFFSET, deadline.seconds, deadline.until)

    def set_idle(self) -> None:
        """No job is running."""
        self.set_between_checks(0, NO_DEADLINE)

    def pid(self) -> int:
        """The id of the process that runs a job, 0 where none does."""
        return int(PID.unpack_from(self._shared, 0)[0])

    def deadline(self) -> Deadline:
        """The deadline of the check in flight; meaningless where no job is running."""
        return Deadline(*TIMES.unpack_from(self._shared, TIMES_OFFSET))

    def check(self) -> CheckInFlight | None:
        """The check in flight, None between checks."""
        _, target, stage, checks_before, _, _, in_check = RECORD.unpack_from(self._shared, 0)
        return CheckInFlight(target, STAGES[stage], checks_before) if in_check else None

    def keep_verdict(self, pid: int, checks_before: int, result: Result, before: FurtherWork) -> None:
        """The verdict of the check in flight is known, and ``before`` follows."""
        with suppress(OSError):  # it is written again into the journal, which reports a full disk
            self._verdict.write_bytes(to_json_line(KeptVerdict(pid, checks_before, before, result)))

    def kept_verdict(self) -> KeptVerdict | None:
        """The verdict of the check in flight, None if it was not known yet. One that was torn does not count."""
        pid, _, _, checks_before, _, _, in_check = RECORD.unpack_from(self._shared, 0)
        with suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads(self._verdict.read_bytes())
            kept = KeptVerdict(**record | {"result": result_from_json(record["result"])})
            return kept if in_check and (kept.pid, kept.checks_before) == (pid, checks_before) else None
        return None

    def close(self) -> None:
        """Release the shared memory."""
        self._shared.close()


WORK: dict[FurtherWork, str] = {
    "blame": "finding the blame",
    "layers": "comparing the layers and finding the blame",
    "weights": "comparing the weights",
    "timing": "timing",
    "packing": "packing the layers",
}


@dataclass(frozen=True, slots=True)
class KeptVerdict:
    """The verdict of a check whose process ended in the work ``before`` which it was known.

    ``pid`` and ``checks_before`` are the process and the number of checks before it there.
    """

    pid: int
    checks_before: int
    before: FurtherWork
    result: Result

    def lost(self, stage: Stage, symptom: Symptom, message: str, log: Sequence[str], notes: Sequence[str]) -> Result:
        """The result of the check, whose process ended with ``symptom`` and ``message``.

        A failure stays one, with a note. A pass counts only if nothing is missing but its timing for lack of time: the
        layers could have failed it, and a runtime that crashes is no pass. An export is packed without its layers.
        """
        result = replace(self.result, log=tuple(log) or self.result.log, notes=(*self.result.notes, *notes))
        is_lost = self.before == "layers" or (symptom != "timeout" and self.before != "packing")
        if result.status == "passed" and is_lost:
            work = "comparing the layers" if self.before == "layers" else WORK[self.before]
            message = f"the outputs agree; then {work}: {message}"
            return replace(result, status="error", stage=stage, symptom=symptom, message=message)
        how = message.replace("not done after", "within") if symptom == "timeout" else f"because {message}"
        return replace(result, notes=(*result.notes, f"{WORK[self.before]} was not finished {how}"))


FATAL_ERROR = re.compile(r"(thread '.{0,80}panicked at |terminate called after throwing an instance of )")
"""What Rust and C++ print before they end the process; the reason is on the next line."""
MAX_REASON = 300
"""Characters of the reason that are kept."""


def fatal_error(log: Sequence[str]) -> str:
    """The reason for which the code of a library ended the process, after a colon; "" if none was printed."""
    following = (after for line, after in pairwise(log) if FATAL_ERROR.match(line))
    reason = next(following, "").strip().removeprefix("what():").strip()[:MAX_REASON]
    return f": {reason}" if reason else ""


RETIRED = 86
"""The exit code of a working worker that asks to be replaced."""
CANNOT_REPORT = 70
"""The exit code of a worker that a check left unable to report its result."""


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """A worker ended before its job did.

    ``exit_code`` is negative for a signal, and None where it is unknown. ``check`` is the check in flight, and
    ``deadline`` its deadline. ``seen_at`` is when the run saw the end, by the same clock. ``overdue`` is True where the
    worker went on after the deadline and the run killed it. ``log`` is what was printed meanwhile. ``killed_processes``
    is the number of processes that it had started and that were killed after it. ``verdict`` is that of the check in
    flight, if it was known.
    """

    exit_code: int | None
    check: CheckInFlight | None
    log: tuple[str, ...] = ()
    deadline: Deadline = NO_DEADLINE
    seen_at: float = math.inf
    overdue: bool = False
    killed_processes: int = 0
    verdict: KeptVerdict | None = None

    @property
    def description(self) -> str:
        """The exit in words."""
        if self.exit_code is None:
            return "the process ended with an unknown exit code"
        return describe_exit(self.exit_code)

    def cause(self, job: Job) -> tuple[Symptom, str]:
        """The symptom and the message of the check in flight."""
        if self.overdue or (self.exit_code == TIMED_OUT and self.seen_at >= self.deadline.until):
            seconds = self.deadline.seconds if math.isfinite(self.deadline.seconds) else job.settings.timeout
            return "timeout", f"not done after {seconds:g} s; --timeout sets the limit"
        if any(sign in line.lower() for line in self.log for sign in OUT_OF_MEMORY):
            return "out-of-memory", "the process ran out of memory; --memory sets the limit"
        if self.exit_code == CANNOT_REPORT:
            return "crash", "the check left its process unable to report the result; see the log"
        return "crash", f"{self.description}{fatal_error(self.log)}"
