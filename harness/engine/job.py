"""A worker's unit of work: a case with its targets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from harness.check.cache.artifacts import is_cached
from harness.check.settings import Settings
from harness.environment import versions
from harness.exporters._dynamo_cache import WARMED_UP_EXPORTERS
from harness.result import Result, Stage, Symptom
from harness.spec.language.case import Case
from harness.spec.targets import Target


@dataclass(frozen=True, slots=True)
class Job:
    """One case on some targets. It is sent to one worker, since its checks share their preparation.

    ``journal`` is the file that results are written to, line by line; ``scratch`` is a folder for temporary files,
    which the run removes. A factory's module is imported from ``home``.
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
    def runs_user_code(self) -> bool:
        """True where the case runs a user's code, which may leave anything behind in its process."""
        return self.case.runs_user_code

    @property
    def needs_preparation(self) -> bool:
        """True where there is an export to make that is much faster in a warmed-up process."""
        warmed_up = [target for target in self.targets if target.exporter in WARMED_UP_EXPORTERS]
        return any(not is_cached(self.settings.cache, self.case, target) for target in warmed_up)

    def without(self, targets: set[str]) -> Job:
        """Return the job without ``targets``."""
        return replace(self, targets=tuple(target for target in self.targets if str(target) not in targets))


def lost_check_result(
    job: Job,
    target: Target,
    stage: Stage,
    symptom: Symptom,
    message: str,
    log: tuple[str, ...],
    notes: tuple[str, ...] = (),
) -> Result:
    """Return the result of a check whose worker died."""
    where = str(job.case.where)
    return Result(job.case.id, str(target), "error", stage, symptom, message, log=log, notes=notes, where=where)


def fingerprint(case: Case, target: Target, settings: Settings) -> str:
    """Return what a result depends on, as a hash: the case with all its data, target, settings, installed versions."""
    return fingerprint_function(case, settings)(target)


def fingerprint_function(case: Case, settings: Settings) -> Callable[[Target], str]:
    """Return :func:`fingerprint` as a function of the target; the case is written out only once."""
    used = (
        settings.latency,
        settings.layers,
        settings.strict_ulp,
        settings.timeout,
        settings.timeout_per_gib,
        settings.memory,
    )
    common = hashlib.sha256(f"{used} {case!r} {installed_versions()}".encode())

    def with_target(target: Target) -> str:
        complete = common.copy()
        complete.update(f" {target}".encode())
        return complete.hexdigest()[:32]

    return with_target


@cache
def installed_versions() -> str:
    """Return the versions of the installed libraries, as text."""
    return repr(sorted(versions().items()))
