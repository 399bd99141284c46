"""Where a worker is: a few numbers in memory shared with the run, which outlive the worker that wrote them."""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from harness.result import Stage

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


class Whereabouts:
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
