"""What a worker is given: a case, and the targets to take it to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from harness.check.cache.artifacts import is_kept
from harness.check.settings import Settings
from harness.environment import versions
from harness.exporters._dynamo_cache import PREPARED
from harness.result import Result, Stage, Symptom
from harness.spec.language.case import Case
from harness.spec.targets import Target


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
        """True where the case is verified without torch."""
        return self.case.is_recorded

    @property
    def runs_own_code(self) -> bool:
        """True where the case runs code of the user's, which may leave anything behind in its process."""
        return self.case.runs_own_code

    @property
    def needs_preparation(self) -> bool:
        """True where it is to be exported by what a prepared process does much quicker."""
        slow = [target for target in self.targets if target.exporter in PREPARED]
        return any(not is_kept(self.settings.cache, self.case, target) for target in slow)

    def without(self, targets: set[str]) -> Job:
        """The job with what is left of it when ``targets`` are done."""
        return replace(self, targets=tuple(target for target in self.targets if str(target) not in targets))


def lost(
    job: Job,
    target: Target,
    stage: Stage,
    symptom: Symptom,
    message: str,
    log: tuple[str, ...],
    notes: tuple[str, ...] = (),
) -> Result:
    """The result of a check whose worker did not live to tell."""
    where = str(job.case.where)
    return Result(job.case.id, str(target), "error", stage, symptom, message, log=log, notes=notes, where=where)


def fingerprint(case: Case, target: Target, settings: Settings) -> str:
    """What a result holds for: the case with all its data, the target, what is asked of every check, the versions."""
    return fingerprints(case, settings)(target)


def fingerprints(case: Case, settings: Settings) -> Callable[[Target], str]:
    """The same for every target of a case, which is written out once."""
    asked = (settings.latency, settings.strict_ulp, settings.timeout, settings.timeout_per_gib, settings.memory)
    common = hashlib.sha256(f"{asked} {case!r} {_installed()}".encode())

    def of(target: Target) -> str:
        whole = common.copy()
        whole.update(f" {target}".encode())
        return whole.hexdigest()[:32]

    return of


@cache
def _installed() -> str:
    return repr(sorted(versions().items()))
