"""What a worker does with its jobs: check by check, each under its limits, each in the journal once it is known."""

from __future__ import annotations

import faulthandler
import os
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

from harness.check.cache.artifacts import Artifacts
from harness.check.refusal import check_opsets
from harness.check.settings import Settings, seconds_for
from harness.check.stages import Clock, message_of
from harness.engine.job import Job, fingerprints
from harness.engine.journal import Entry, JournalWriter
from harness.engine.processes import libraries
from harness.engine.processes.exits import become_their_ancestor, end_children, has_children, stay_with, told
from harness.engine.processes.limits import die_first_for_memory, die_with_parent, extend, held_memory, limited
from harness.engine.processes.output_capture import OutputCapture
from harness.engine.processes.process_state import ProcessState
from harness.engine.worker_status import BROKEN, RETIRED, UNLIMITED, Allowed, WorkerStatus
from harness.errors import DiskFull, HarnessError, UsageError
from harness.forked import end_if_forked
from harness.result import Result, Stage
from harness.spec.language.case import PackedModel
from harness.spec.targets import Target

LEAKED = 1 << 30
Verify = Callable[[Target, Clock], Result]


@dataclass
class WorkerContext:
    """What a worker works with from its first job to its last. ``limit`` is the time limit of a check of its job."""

    capture: OutputCapture
    status_record: WorkerStatus
    checks: int = 0
    held: int = field(default_factory=held_memory)
    folder: Path | None = None
    process: int = field(default_factory=os.getpid)
    limit: float | None = None
    _allowed: Allowed = UNLIMITED

    def begin(self, settings: Settings) -> None:
        """Say that a job is taken up."""
        self.limit = settings.timeout
        self._start_the_clock()
        self.status_record.begin(self.process, self._allowed)

    def begin_check(self) -> None:
        """Say that a check begins."""
        self._start_the_clock()

    def enter(self, target: int, stage: Stage) -> None:
        """Say where the worker is."""
        self.status_record.enter(self.process, target, stage, self.checks, self._allowed)

    def allow_for(self, size: int, settings: Settings) -> None:
        """The model is ``size`` bytes large: this check and those of the job that come after it may take longer."""
        if self.limit is None or settings.timeout is None:
            return
        more = settings.timeout + seconds_for(size, settings) - self.limit
        if more > 0:
            extend(more)
            self.limit += more
            self._allowed = Allowed(self.limit, self._allowed.until + more)
            self.status_record.allow(self._allowed)

    def leave(self) -> None:
        """Say that a check is done."""
        self.checks += 1
        self._start_the_clock()
        self.status_record.begin(self.process, self._allowed)

    def _start_the_clock(self) -> None:
        if self.limit is None:
            self._allowed = UNLIMITED
        else:
            self._allowed = Allowed(self.limit, time.monotonic() + self.limit)

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


_desks: list[WorkerContext] = []


def start(folder: Path) -> None:
    """Make this process a worker: silent, deaf to Ctrl-C, and gone when the run is gone.

    ``folder`` holds what the run may look at when the worker is no more.
    """
    die_with_parent()
    die_first_for_memory()
    become_their_ancestor()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    capture = OutputCapture(folder / "capture")
    capture.swallow()
    faulthandler.enable()
    _desks.append(WorkerContext(capture, WorkerStatus(folder / "status_record")))


def do(job: Job) -> Entry | HarnessError | None:
    """Run the job's checks and write each into the journal; give what kept it from that, if anything did.

    An entry that could not be written is returned: only the run, where no user's code ran, can tell whether it is the
    disk. A worker that is in doubt after a check, or worn after a job, retires.
    """
    (context,) = _desks
    context.begin(job.settings)
    try:
        with closing(JournalWriter(job.journal)) as journal:
            work(job, context, partial(_write, journal))
    except _NotWrittenError as error:
        context.status_record.end()
        return error.entry
    except DiskFull as error:
        context.status_record.end()
        return HarnessError(str(error))
    except UsageError as error:
        context.status_record.end()
        return UsageError(str(error))
    except BaseException:  # noqa: BLE001 - what a check did to its process keeps this from being told: it is that check's row
        end_if_forked(context.process)
        traceback.print_exc()
        os._exit(BROKEN)
    if job.runs_own_code or context.worn:  # in this order: code of the user's may have left no file to look with
        os._exit(RETIRED)
    context.status_record.end()
    return None


class _NotWrittenError(Exception):
    """The journal did not take ``entry``."""

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self.entry = entry


def _write(journal: JournalWriter, entry: Entry) -> None:
    try:
        journal.add(entry)
    except DiskFull as error:
        raise _NotWrittenError(entry) from error


def work(job: Job, context: WorkerContext, tell: Callable[[Entry], None]) -> None:
    """Run the job's checks and ``tell`` of each as soon as it is known.

    Raises :class:`DiskFull` where harness's folder is full, what ``tell`` raises, and :class:`UsageError` before the
    first check where a target is at an opset that the libraries do not have.
    """
    server = os.getppid()
    context.capture.swallow()
    # A check may ask for its end, as the pool does: there is nothing to tidy up.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with context.own_folder(job.scratch) as own:
        tempfile.tempdir = str(own)  # a worker that dies leaves its temporary files here, where the run removes them
        artifacts = Artifacts(job.settings.cache, own, context.capture)

        def sized(size: int) -> None:
            artifacts.size = size
            context.allow_for(size, job.settings)

        verify = _verifier(job, artifacts, context.capture, sized)
        if not job.is_recorded:
            check_opsets(job.targets)
        process_state, of = _manners(torch=not job.is_recorded), fingerprints(job.case, job.settings)
        context.capture.take()
        for number, target in enumerate(job.targets):
            os.chdir(job.home)
            context.begin_check()
            with limited(context.limit, job.settings.memory), process_state.check():
                result = _contained(verify, target, job, Clock(partial(context.enter, number), own))
                if job.runs_own_code:
                    stay_with(server)
            end_if_forked(context.process)
            # What other code starts is the libraries' own, and may serve them for longer than one check.
            ended = end_children() if job.runs_own_code and has_children() else 0
            if said := context.capture.take():
                result = replace(result, log=said)
            if ended:
                result = replace(result, notes=(*result.notes, *told(ended)))
            tell(Entry(result, of(target), *artifacts.counted()))
            context.leave()
            if artifacts.doubtful or ended:
                os._exit(RETIRED)
    process_state.put_back_numbers()


@cache
def _manners(*, torch: bool) -> ProcessState:
    return ProcessState(torch=torch)


def _verifier(job: Job, artifacts: Artifacts, capture: OutputCapture, sized: Callable[[int], None]) -> Verify:
    """How the job's case is taken to a target. torch is loaded only for a case that needs it.

    ``sized`` is told how many bytes the model takes, as soon as that is known.
    """
    if isinstance(job.case.model.model, PackedModel):
        libraries.for_recorded_models()
        from harness.check.recorded.packed import PackedCase, check_packed

        packed = PackedCase(job.case, job.settings.strict_ulp, capture, sized)
        return lambda target, clock: check_packed(packed, target, job.settings, clock)
    if job.is_recorded:
        libraries.for_recorded_models()
        from harness.check.recorded.recording import Recording, check_recorded

        recording = Recording(job.case, job.settings.strict_ulp, sized)
        return lambda target, clock: check_recorded(recording, target, job.settings, clock)
    libraries.for_specs()
    from harness.check.check import check
    from harness.check.prepared_case import PreparedCase

    prepared = PreparedCase(job.case, artifacts, job.settings.strict_ulp, capture, sized)
    if (folder := job.settings.pack) is not None:
        from harness.check.recorded.packing import pack_export

        return lambda target, clock: pack_export(prepared, target, folder, clock)
    return lambda target, clock: check(prepared, target, job.settings, clock)


def _contained(verify: Verify, target: Target, job: Job, clock: Clock) -> Result:
    try:
        return verify(target, clock)
    except DiskFull:
        raise
    except BaseException as error:  # noqa: BLE001 - harness's own mistake is a row too, and exit code 3; it hides nothing
        traceback.print_exc()
        blank = Result(job.case.id, str(target), "error", where=str(job.case.where))
        if not isinstance(error, Exception):  # raised by the code under test, in answer to a signal that it asked for
            return replace(blank, stage=clock.at, symptom="exception", message=message_of(error))
        return replace(blank, message=f"harness itself failed: {message_of(error)}")


def _is_empty(folder: Path) -> bool:
    """False also where a check took it away."""
    try:
        return not any(folder.iterdir())
    except OSError:
        return False
