"""What a worker is given: a case, and the targets to take it to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from harness.result import Result, Stage, Symptom
from harness.spec.case import Case, FileModel
from harness.spec.target import Target
from harness.verify.settings import Settings


@dataclass(frozen=True, slots=True)
class Job:
    """One case on some targets: the unit that is sent to a worker, since its checks share their preparation.

    ``journal`` is the file that results go to, line by line, as they come; ``scratch`` is a folder for what need not
    outlive the run, which the run removes; ``home`` is the folder that a factory's module is looked for in.
    """

    case: Case
    targets: tuple[Target, ...]
    settings: Settings
    journal: Path
    scratch: Path
    home: Path

    @property
    def is_recorded(self) -> bool:
        """True where the case is a recorded model, which is verified without torch."""
        return isinstance(self.case.model.model, FileModel)


def lost(job: Job, target: str, stage: Stage, symptom: Symptom, message: str, log: tuple[str, ...]) -> Result:
    """The result of a check whose worker did not live to tell."""
    where = str(job.case.where)
    return Result(job.case.id, target, "error", stage, symptom, message, log=log, where=where)


def fingerprint(case: Case, target: Target, settings: Settings) -> str:
    """What a result holds for: the case with all its data, the target, and what is asked of every check."""
    asked = (case, str(target), settings.latency, settings.strict_ulp)
    return hashlib.sha256(repr(asked).encode()).hexdigest()[:32]
