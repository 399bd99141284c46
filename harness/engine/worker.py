"""A worker's own code: it runs the checks of its jobs under their limits, and writes each result into the journal."""

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

from harness.check.cache.artifacts import ArtifactCache, ExportHistory
from harness.check.refusal import check_opsets
from harness.check.settings import MEMORY_PER_BYTE, Settings, allow_for_samples, extra_seconds
from harness.check.stages import Clock, FurtherWork, message_of
from harness.engine.job import Job, fingerprint_function
from harness.engine.journal import Entry, JournalWriter
from harness.engine.processes import serving
from harness.engine.processes.exits import (
    become_subreaper,
    has_children,
    kill_children,
    killed_note,
    wait_if_server_ended,
)
from harness.engine.processes.limits import (
    die_first_for_memory,
    die_with_parent,
    extend_memory_limit,
    extend_time_limit,
    limited,
    private_memory,
)
from harness.engine.processes.output_capture import OutputCapture, hide_warnings_of_imports
from harness.engine.processes.process_state import ProcessState, StateAfterConstruction
from harness.engine.worker_status import CANNOT_REPORT, NO_DEADLINE, RETIRED, Deadline, WorkerStatus
from harness.errors import DiskFull, HarnessError, UsageError
from harness.forked import exit_if_forked
from harness.result import Result, Stage
from harness.spec.bundle.entries import PackedModel
from harness.spec.language.case import FileModel
from harness.spec.targets import Target

MAX_MEMORY_GROWTH = 1 << 30
"""A worker whose private memory grew by more bytes than this is replaced."""
Verify = Callable[[Target, Clock], Result]


@dataclass
class WorkerContext:
    """What a worker keeps from its first job to its last.

    ``time_limit`` and ``memory_limit`` are the limits of each check of its job.
    """

    capture: OutputCapture
    status: WorkerStatus
    checks: int = 0
    memory_at_start: int = field(default_factory=private_memory)
    folder: Path | None = None
    process: int = field(default_factory=os.getpid)
    time_limit: float | None = None
    memory_limit: int | None = None
    _deadline: Deadline = NO_DEADLINE

    def begin_job(self, settings: Settings) -> None:
        """Record that a job begins."""
        self.time_limit, self.memory_limit = settings.timeout, settings.memory
        self._restart_clock()
        self.status.set_between_checks(self.process, self._deadline)

    def begin_check(self) -> None:
        """Record that a check begins."""
        self._restart_clock()

    def enter_stage(self, target: int, stage: Stage) -> None:
        """Record the stage of the check on target number ``target``."""
        self.status.set_check(self.process, target, stage, self.checks, self._deadline)

    def allow_for_size(self, size: int, settings: Settings) -> None:
        """Extend the limits of this check and of the job's later ones for a model of ``size`` bytes."""
        if self.memory_limit is not None and settings.memory is not None:
            more_memory = max(0, settings.memory + MEMORY_PER_BYTE * size - self.memory_limit)
            extend_memory_limit(more_memory)
            self.memory_limit += more_memory
        if self.time_limit is None or settings.timeout is None:
            return
        more = settings.timeout + extra_seconds(size, settings) - self.time_limit
        if more > 0:
            extend_time_limit(more)
            self.time_limit += more
            self._deadline = Deadline(self.time_limit, self._deadline.until + more)
            self.status.set_deadline(self._deadline)

    def keep(self, result: Result, before: FurtherWork) -> None:
        """Keep the verdict of the check in flight, in case that its process ends in what follows."""
        self.status.keep_verdict(self.process, self.checks, result, before)

    def end_check(self) -> None:
        """Record that a check is done."""
        self.checks += 1
        self._restart_clock()
        self.status.set_between_checks(self.process, self._deadline)

    def _restart_clock(self) -> None:
        if self.time_limit is None:
            self._deadline = NO_DEADLINE
        else:
            self._deadline = Deadline(self.time_limit, time.monotonic() + self.time_limit)

    @contextmanager
    def job_folder(self, scratch: Path) -> Iterator[Path]:
        """A folder for a job's temporary files; it is emptied afterwards and kept, since making one takes a while."""
        if self.folder is None or self.folder.parent != scratch:
            self.folder = Path(tempfile.mkdtemp(dir=scratch))
        try:
            yield self.folder
        finally:
            if not _is_empty(self.folder):
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder = None

    @property
    def needs_restart(self) -> bool:
        """True where this process uses so much more memory than at its start that a fresh one is better."""
        return private_memory() - self.memory_at_start > MAX_MEMORY_GROWTH


_contexts: list[WorkerContext] = []


def start(folder: Path) -> None:
    """Make this process a worker: its output is captured, it ignores Ctrl-C, and it ends when the run ends.

    ``folder`` holds the files that the run reads when the worker is gone.
    """
    die_with_parent()
    die_first_for_memory()
    become_subreaper()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    capture = OutputCapture(folder / "capture")
    capture.redirect()
    hide_warnings_of_imports()
    faulthandler.enable()
    _contexts.append(WorkerContext(capture, WorkerStatus(folder / "status")))


def run_job(job: Job) -> Entry | HarnessError | None:
    """Run the job's checks and write each into the journal; return the error that prevented it, if any.

    An entry that could not be written is returned: only the run, where no user's code ran, can tell whether the disk
    is the reason. A worker retires after a check that may have left something behind, and after a job where it
    needs a restart.
    """
    (context,) = _contexts
    context.begin_job(_limits(job))
    try:
        with closing(JournalWriter(job.journal)) as journal:
            run_checks(job, context, partial(_write, journal))
    except _NotWrittenError as error:
        context.status.set_idle()
        return error.entry
    except DiskFull as error:
        context.status.set_idle()
        return HarnessError(str(error))
    except UsageError as error:
        context.status.set_idle()
        return UsageError(str(error))
    except BaseException:  # noqa: BLE001 - a check broke its process, so this cannot be returned: the run writes the row
        exit_if_forked(context.process)
        traceback.print_exc()
        os._exit(CANNOT_REPORT)
    if job.runs_user_code or context.needs_restart:  # in this order: needs_restart must open a file
        os._exit(RETIRED)
    context.status.set_idle()
    return None


def _limits(job: Job) -> Settings:
    """The settings with the time limit of each check of the job."""
    return job.settings if job.case.data is None else allow_for_samples(job.settings, len(job.case.samples))


class _NotWrittenError(Exception):
    """The journal could not take ``entry``."""

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self.entry = entry


def _write(journal: JournalWriter, entry: Entry) -> None:
    try:
        journal.add(entry)
    except DiskFull as error:
        raise _NotWrittenError(entry) from error


def run_checks(job: Job, context: WorkerContext, record: Callable[[Entry], None]) -> None:
    """Run the job's checks and ``record`` each entry as soon as it is known.

    Where a check fails before its file is loaded and this process has run other checks, they may be the cause. It is
    not recorded: the process ends, and a fresh one begins with that check.

    Raises :class:`DiskFull` where harness's folder is full, what ``record`` raises, and :class:`UsageError` before the
    first check where a target has an opset that the libraries do not support.
    """
    server = os.getppid()
    context.capture.redirect()
    # A check may send SIGTERM to its process, as the pool does: there is nothing to clean up.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with context.job_folder(job.scratch) as folder:
        tempfile.tempdir = str(folder)  # a worker that dies leaves its temporary files here, where the run removes them
        history = ExportHistory()
        artifacts = ArtifactCache(job.settings.cache, folder, context.capture, history)

        constructed_state = StateAfterConstruction(torch=not job.is_recorded, user_code=job.runs_user_code)

        def on_size(size: int) -> None:
            constructed_state.remember()
            artifacts.model_size = size
            context.allow_for_size(size, _limits(job))

        verify = _verifier(job, artifacts, context.capture, on_size)
        check_opsets(job.targets, exporting=not job.is_recorded)
        process_state = _process_state(torch=not job.is_recorded)

        def enter_stage(target: int, stage: Stage) -> None:
            context.enter_stage(target, stage)
            if stage in {"export", "load"}:
                constructed_state.restore()
                os.chdir(job.home)

        def keep(result: Result, before: FurtherWork) -> None:
            context.keep(replace(result, artifact_path=artifacts.path_of(result.artifact)), before)

        fingerprint = fingerprint_function(job.case, job.settings)
        context.capture.drain()
        for index, target in enumerate(job.targets):
            os.chdir(job.home)
            context.begin_check()
            history.ran_checks = context.checks > 0
            with limited(context.time_limit, context.memory_limit), process_state.check():
                result = _verify_contained(verify, target, job, Clock(partial(enter_stage, index), folder, keep))
                if job.runs_user_code:
                    wait_if_server_ended(server)
            exit_if_forked(context.process)
            # Processes started by other code belong to the libraries, and may serve them for longer than one check.
            killed = kill_children() if job.runs_user_code and has_children() else 0
            result = _with_capture(result, context.capture.drain(), killed)
            result = replace(result, artifact_path=artifacts.path_of(result.artifact))
            if history.failed_after_checks or (history.ran_checks and _failed_to_build(result) and not job.is_recorded):
                context.end_check()
                os._exit(RETIRED)
            record(Entry(result, fingerprint(target), *artifacts.take_counts()))
            context.end_check()
            if history.left_state or killed:
                os._exit(RETIRED)
    process_state.restore_numpy_random()


@cache
def _process_state(*, torch: bool) -> ProcessState:
    return ProcessState(torch=torch)


def _verifier(job: Job, artifacts: ArtifactCache, capture: OutputCapture, on_size: Callable[[int], None]) -> Verify:
    """Return the function that verifies the job's case on a target. torch is loaded only for a case that needs it.

    ``on_size`` is called with the model's size in bytes as soon as it is known.
    """
    if isinstance(job.case.model.model, PackedModel):
        serving.load_for_recorded_models()
        from harness.check.recorded.packed import PackedCase, check_packed

        packed = PackedCase(job.case, job.settings.strict_ulp, capture, on_size)
        return lambda target, clock: check_packed(packed, target, job.settings, clock)
    if isinstance(job.case.model.model, FileModel):
        serving.load_for_recorded_models()
        from harness.check.recorded.recording import RecordedCase, check_recorded

        recorded = RecordedCase(job.case, job.settings.strict_ulp, on_size)
        return lambda target, clock: check_recorded(recorded, target, job.settings, clock)
    if job.is_recorded:
        serving.load_for_recorded_models()
    else:
        serving.load_for_specs()
    from harness.check.check import check_with_script
    from harness.check.files.contexts import CaseContexts

    contexts = CaseContexts(job.case, artifacts, job.settings.strict_ulp, capture, on_size)
    if (folder := job.settings.pack) is not None:
        from harness.check.recorded.packing import pack_export

        return lambda target, clock: pack_export(contexts.prepared, target, folder, clock, job.settings.pack_layers)
    return lambda target, clock: check_with_script(contexts.of(target), target, job.settings, clock)


def _verify_contained(verify: Verify, target: Target, job: Job, clock: Clock) -> Result:
    try:
        return verify(target, clock)
    except DiskFull:
        raise
    except BaseException as error:  # noqa: BLE001 - harness's own mistake is a row too, and exit code 3; it hides nothing
        traceback.print_exc()
        blank = Result(job.case.id, str(target), "error", where=str(job.case.where))
        if not isinstance(error, Exception):  # raised by the code under test, in its own signal handler
            return replace(blank, stage=clock.current_stage, symptom="exception", message=message_of(error))
        return replace(blank, message=f"harness itself failed: {message_of(error)}")


def _with_capture(result: Result, log: tuple[str, ...], killed: int) -> Result:
    """``result`` with what was printed, and with the number of processes that the check left and that were killed."""
    if not log and not killed:
        return result
    return replace(result, log=log or result.log, notes=(*result.notes, *(killed_note(killed) if killed else ())))


def _failed_to_build(result: Result) -> bool:
    return result.status == "error" and result.stage == "build"


def _is_empty(folder: Path) -> bool:
    """True for an existing empty folder; False also where a check removed it."""
    try:
        return not any(folder.iterdir())
    except OSError:
        return False
