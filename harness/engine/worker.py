"""What a worker does with a job: check by check, each under its limits, each in the journal as soon as it is known."""

from __future__ import annotations

import faulthandler
import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from harness.engine import libraries
from harness.engine.chatter import Chatter
from harness.engine.job import Job, fingerprint
from harness.engine.journal import JournalWriter, Started
from harness.engine.limits import die_with_parent, limited
from harness.result import Result, Stage
from harness.spec.target import Target
from harness.verify.artifacts import Artifacts
from harness.verify.stages import Clock

RETIRED = 86
Verify = Callable[[Target, Clock], Result]


def start(scratch: Path) -> None:
    """Make this process a worker: silent, deaf to Ctrl-C, and gone when the run is gone."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _chatter(scratch)
    faulthandler.enable()


def work(job: Job) -> None:
    """Run the job's checks. A worker that a library left in a doubtful state says its last result and retires."""
    os.chdir(job.home)
    journal, chatter = JournalWriter(job.journal), _chatter(job.scratch)
    verify = _verifier(job)
    try:
        for target in job.targets:
            chatter.take()

            def announce(stage: Stage, target: Target = target) -> None:
                journal.started(
                    Started(job.case.id, str(target), stage, os.getpid(), str(chatter.path), chatter.offset)
                )

            with limited(job.settings.timeout, job.settings.memory):
                result = _contained(verify, target, job, Clock(announce))
            journal.finished(replace(result, log=chatter.take()), fingerprint(job.case, target, job.settings))
            if _doubtful(result, target):
                os._exit(RETIRED)
    finally:
        journal.close()


def _verifier(job: Job) -> Verify:
    """How the job's case is taken to a target. torch is loaded only for a case that needs it."""
    if job.is_recorded:
        libraries.for_recorded_models()
        from harness.verify.recorded import Recording, check_recorded

        recording = Recording(job.case, job.settings.strict_ulp)
        return lambda target, clock: check_recorded(recording, target, job.settings, clock)
    libraries.for_specs()
    from harness.verify.check import check
    from harness.verify.trial import Trial

    trial = Trial(job.case, Artifacts(job.settings.cache, job.scratch), job.settings.strict_ulp)
    return lambda target, clock: check(trial, target, job.settings, clock)


def _contained(verify: Verify, target: Target, job: Job, clock: Clock) -> Result:
    try:
        return verify(target, clock)
    except Exception as error:  # noqa: BLE001 - harness's own mistake is a row too, and exit code 3; it hides nothing
        traceback.print_exc()
        said = f"harness itself failed: {type(error).__name__}: {error}"
        return Result(job.case.id, str(target), "error", message=said, where=str(job.case.where))


def _doubtful(result: Result, target: Target) -> bool:
    """A failed script leaves state behind in torch that changes what the next one says."""
    return target.exporter == "script" and result.stage == "export" and result.status == "error"


@cache
def _chatter(scratch: Path) -> Chatter:
    return Chatter(scratch)
