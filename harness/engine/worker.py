"""What a worker does with its jobs: check by check, each under its limits, each in the journal once it is known."""

from __future__ import annotations

import faulthandler
import os
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

from harness.engine import libraries
from harness.engine.chatter import Chatter
from harness.engine.death import RETIRED
from harness.engine.job import Job, fingerprints
from harness.engine.journal import Entry, JournalWriter
from harness.engine.limits import die_first_for_memory, die_with_parent, held_memory, limited
from harness.engine.manners import Manners
from harness.engine.whereabouts import Whereabouts
from harness.errors import HarnessError, NoRoom, UsageError
from harness.result import Result, Stage
from harness.spec.case import PackedModel
from harness.spec.target import Target
from harness.verify.artifacts import Artifacts
from harness.verify.opsets import check_opsets
from harness.verify.stages import Clock

LEAKED = 1 << 30
BROKEN = 70
Verify = Callable[[Target, Clock], Result]


@dataclass
class Desk:
    """What a worker works with from its first job to its last."""

    chatter: Chatter
    whereabouts: Whereabouts
    checks: int = 0
    held: int = field(default_factory=held_memory)
    folder: Path | None = None

    def enter(self, target: int, stage: Stage) -> None:
        """Say where the worker is."""
        self.whereabouts.enter(os.getpid(), target, stage, self.checks)

    def leave(self) -> None:
        """Say that a check is done."""
        self.checks += 1
        self.whereabouts.begin(os.getpid())

    @contextmanager
    def own_folder(self, scratch: Path) -> Iterator[Path]:
        """A folder for what a job need not leave behind; empty again afterwards, since making one takes a while."""
        if self.folder is None or self.folder.parent != scratch:
            self.folder = Path(tempfile.mkdtemp(dir=scratch))
        try:
            yield self.folder
        finally:
            if not _is_empty(self.folder):
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder = None

    @property
    def worn(self) -> bool:
        """True where a fresh process is better than this one."""
        return held_memory() - self.held > LEAKED


_desks: list[Desk] = []


def start(folder: Path) -> None:
    """Make this process a worker: silent, deaf to Ctrl-C, and gone when the run is gone.

    ``folder`` holds what the run may look at when the worker is no more.
    """
    die_with_parent()
    die_first_for_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    chatter = Chatter(folder / "chatter")
    chatter.swallow()
    faulthandler.enable()
    _desks.append(Desk(chatter, Whereabouts(folder / "whereabouts")))


def do(job: Job) -> HarnessError | None:
    """Run the job's checks and write each into the journal; give what kept it from that, if anything did.

    A worker that is in doubt after a check, or worn after a job, retires.
    """
    (desk,) = _desks
    desk.whereabouts.begin(os.getpid())
    try:
        with closing(JournalWriter(job.journal)) as journal:
            work(job, desk, journal.add)
    except NoRoom as error:
        return HarnessError(str(error))
    except UsageError as error:
        return UsageError(str(error))
    except Exception:  # noqa: BLE001 - what a check did to its process keeps this from being told: it is that check's row
        traceback.print_exc()
        os._exit(BROKEN)
    if desk.worn or job.runs_own_code:
        os._exit(RETIRED)
    return None


def work(job: Job, desk: Desk, tell: Callable[[Entry], None]) -> None:
    """Run the job's checks and ``tell`` of each as soon as it is known.

    Raises :class:`NoRoom` where what is found out cannot be written down, and :class:`UsageError` before the first
    check where a target is at an opset that the libraries do not have.
    """
    desk.chatter.swallow()
    # A check may ask for its end, as the pool does: there is nothing to tidy up.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with desk.own_folder(job.scratch) as own:
        tempfile.tempdir = str(own)  # a worker that dies leaves its temporary files here, where the run removes them
        artifacts = Artifacts(job.settings.cache, own, desk.chatter)
        verify = _verifier(job, artifacts, desk.chatter)
        if not job.is_recorded:
            check_opsets(job.targets)
        manners, of = _manners(torch=not job.is_recorded), fingerprints(job.case, job.settings)
        desk.chatter.take()
        for number, target in enumerate(job.targets):
            os.chdir(job.home)
            with limited(job.settings.timeout, job.settings.memory), manners.check():
                result = _contained(verify, target, job, Clock(partial(desk.enter, number)))
            if said := desk.chatter.take():
                result = replace(result, log=said)
            tell(Entry(result, of(target), *artifacts.counted()))
            desk.leave()
            if artifacts.doubtful:
                os._exit(RETIRED)
    manners.put_back_numbers()


@cache
def _manners(*, torch: bool) -> Manners:
    return Manners(torch=torch)


def _verifier(job: Job, artifacts: Artifacts, chatter: Chatter) -> Verify:
    """How the job's case is taken to a target. torch is loaded only for a case that needs it."""
    if isinstance(job.case.model.model, PackedModel):
        libraries.for_recorded_models()
        from harness.verify.packed import PackedTrial, check_packed

        packed = PackedTrial(job.case, job.settings.strict_ulp, chatter)
        return lambda target, clock: check_packed(packed, target, job.settings, clock)
    if job.is_recorded:
        libraries.for_recorded_models()
        from harness.verify.recorded import Recording, check_recorded

        recording = Recording(job.case, job.settings.strict_ulp)
        return lambda target, clock: check_recorded(recording, target, job.settings, clock)
    libraries.for_specs()
    from harness.verify.check import check
    from harness.verify.trial import Trial

    trial = Trial(job.case, artifacts, job.settings.strict_ulp, chatter)
    if (folder := job.settings.pack) is not None:
        from harness.verify.packing import pack_export

        return lambda target, clock: pack_export(trial, target, folder, clock)
    return lambda target, clock: check(trial, target, job.settings, clock)


def _contained(verify: Verify, target: Target, job: Job, clock: Clock) -> Result:
    try:
        return verify(target, clock)
    except NoRoom:
        raise
    except Exception as error:  # noqa: BLE001 - harness's own mistake is a row too, and exit code 3; it hides nothing
        traceback.print_exc()
        said = f"harness itself failed: {type(error).__name__}: {error}"
        return Result(job.case.id, str(target), "error", message=said, where=str(job.case.where))


def _is_empty(folder: Path) -> bool:
    """False also where a check took it away."""
    try:
        return not any(folder.iterdir())
    except OSError:
        return False
