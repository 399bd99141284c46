"""Where a worker is: a few numbers in memory shared with the run, which outlive the worker that wrote them."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from harness.result import Stage

STAGES: tuple[Stage, ...] = get_args(Stage)
RECORD = struct.Struct("=q?qqq")


@dataclass(frozen=True, slots=True)
class Check:
    """A check in flight: the number of its target in its job, its stage, and how many checks its worker ran before."""

    target: int
    stage: Stage
    before: int


class Whereabouts:
    """One worker's numbers; the run and the worker each open the same ``path``."""

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as file:
            file.truncate(RECORD.size)
            self._shared = mmap.mmap(file.fileno(), RECORD.size)

    def begin(self, pid: int) -> None:
        """The worker of that process has taken up a job."""
        RECORD.pack_into(self._shared, 0, pid, False, 0, 0, 0)

    def enter(self, pid: int, target: int, stage: Stage, before: int) -> None:
        """The worker came to ``stage`` of the check on its job's target number ``target``."""
        RECORD.pack_into(self._shared, 0, pid, True, target, STAGES.index(stage), before)

    def end(self) -> None:
        """No job is at work."""
        self.begin(0)

    def pid(self) -> int:
        """The process that is at work on a job, 0 where none is."""
        return int(RECORD.unpack_from(self._shared, 0)[0])

    def check(self) -> Check | None:
        """The check in flight, None between checks."""
        _, inside, target, stage, before = RECORD.unpack_from(self._shared, 0)
        return Check(target, STAGES[stage], before) if inside else None

    def close(self) -> None:
        """Give the memory back."""
        self._shared.close()
