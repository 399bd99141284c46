"""Call functions in a separate process: if the process ends, the caller goes on and learns how and where it ended.

The process is forked from the server that has loaded the libraries. It runs one call after another. If a call ends the
process, the next call gets a new one.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import psutil

from harness.check.settings import Settings, extra_seconds
from harness.engine.processes.exits import describe_exit, kill_descendants_of
from harness.engine.processes.fork_server import start_server
from harness.engine.worker_status import KeptVerdict
from harness.result import Stage

T = TypeVar("T")
STAGES: tuple[Stage, ...] = get_args(Stage)
_STARTS_AND_ENDS = threading.Lock()
"""multiprocessing looks after all its processes whenever one starts, which two threads must not do at once."""
EXIT_TIMEOUT_S = 5.0
"""How long a process may take to exit after it has closed its pipe."""


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """The process ended before it returned a result: in which stage, and how.

    ``stage`` and ``verdict`` are the last ones that the function announced. ``timed_out`` is True if the process was
    killed because the call took too long.
    """

    stage: Stage
    description: str
    timed_out: bool
    verdict: KeptVerdict | None = None


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What a function announces when it knows the size of its model in bytes: the call may take longer then."""

    size: int


class SeparateProcess:
    """Calls functions in a separate process; :meth:`close` ends it.

    ``model_size`` is the size of the largest model that a function announced, in bytes.

    ``scratch`` is a folder for the files that the functions write. ``torch`` is False if no function needs torch, and
    ``exporting`` is False if none exports a model.
    """

    def __init__(self, scratch: Path, *, torch: bool, exporting: bool = True) -> None:
        self._scratch, self._torch = scratch, torch
        self._context = start_server(torch=torch, exporting=exporting)
        self._worker: _Worker | None = None
        self.model_size = 0

    def call(self, function: Callable[..., T], *arguments: Any, seconds: float, per_gib: float = 0.0) -> T | ProcessEnd:
        """Return ``function(scratch, *arguments, announce=...)``, which may take ``per_gib`` more for each GiB.

        The function calls ``announce`` with each stage, with its model's size, and with a verdict that it leaves if it
        does not return.

        Raises ``RuntimeError`` for an exception of the function: it should catch those that it expects itself.
        """
        worker = self._worker = self._worker or self._start()
        with suppress(BrokenPipeError):  # the process has just ended, which the wait for its result notices at once
            worker.pipe.send((function, arguments))
        message = self._receive(worker, seconds, Settings(timeout_per_gib=per_gib))
        if isinstance(message, _NoResult):
            self._worker = None
            return _process_end(message, worker.end())
        if isinstance(message, _Raised):
            raise RuntimeError(message.text)  # noqa: TRY004 - no wrong type, but the function's own exception
        return cast("T", message)

    def close(self) -> None:
        """End the process, also after a call that may have left it in a wrong state; the next call starts a new one."""
        if self._worker is not None:
            self._worker.end()
            self._worker = None

    @property
    def memory(self) -> int:
        """The bytes of memory that the process uses; 0 if there is none."""
        pid = None if self._worker is None else self._worker.process.pid
        try:
            return 0 if pid is None else int(psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            return 0

    def _receive(self, worker: _Worker, seconds: float, limits: Settings) -> Any:
        """The result of the call, or what was announced before there was none."""
        stage: Stage = "build"
        verdict: KeptVerdict | None = None
        began = time.monotonic()
        while True:
            allowed = seconds + extra_seconds(self.model_size, limits)
            ready = wait([worker.pipe, worker.process.sentinel], max(0.0, began + allowed - time.monotonic()))
            if not ready:
                return _NoResult(stage, allowed, timed_out=True, verdict=verdict)
            if worker.pipe not in ready:
                return _NoResult(stage, allowed, timed_out=False, verdict=verdict)
            try:
                message = worker.pipe.recv()
            except (EOFError, ConnectionResetError):
                worker.process.join(EXIT_TIMEOUT_S)
                return _NoResult(stage, allowed, timed_out=False, verdict=verdict)
            if isinstance(message, KeptVerdict):
                verdict = message
            elif isinstance(message, ModelSize):
                self.model_size = max(self.model_size, message.size)
            elif isinstance(message, str) and message in STAGES:
                stage = message
            else:
                return message

    def _start(self) -> _Worker:
        pipe, worker_pipe = self._context.Pipe()
        arguments = (worker_pipe, self._scratch, self._torch)
        process = self._context.Process(target=_run_calls, args=arguments, daemon=True)
        with _STARTS_AND_ENDS:
            process.start()
        worker_pipe.close()
        return _Worker(process, pipe)


@dataclass(frozen=True, slots=True)
class _Worker:
    process: ForkServerProcess
    pipe: Connection

    def end(self) -> int:
        """Kill the process and all processes below it, and return its exit code."""
        with _STARTS_AND_ENDS:
            self.process.kill()
            self.process.join()
            if self.process.pid is not None:
                kill_descendants_of(self.process.pid)
            code = self.process.exitcode
            self.process.close()
        self.pipe.close()
        return code or 0


@dataclass(frozen=True, slots=True)
class _Raised:
    """An exception of the function, in one line."""

    text: str


@dataclass(frozen=True, slots=True)
class _NoResult:
    stage: Stage
    seconds: float
    timed_out: bool
    verdict: KeptVerdict | None


def _process_end(no_result: _NoResult, exit_code: int) -> ProcessEnd:
    description = f"not done after {no_result.seconds:.0f} s" if no_result.timed_out else describe_exit(exit_code)
    return ProcessEnd(no_result.stage, description, no_result.timed_out, no_result.verdict)


def _run_calls(pipe: Connection, scratch: Path, torch: bool) -> None:
    from harness.check.stages import message_of
    from harness.engine.processes import serving
    from harness.engine.processes.exits import become_subreaper
    from harness.engine.processes.limits import die_with_parent

    die_with_parent()
    become_subreaper()
    tempfile.tempdir = str(scratch)  # the caller removes it, however this process ends
    serving.load_for_specs() if torch else serving.load_for_recorded_models()
    with suppress(EOFError):
        while True:
            function, arguments = pipe.recv()
            try:
                result = function(scratch, *arguments, announce=pipe.send)
            except BaseException as error:  # noqa: BLE001 - sent to the caller, which raises it
                result = _Raised(message_of(error))
            pipe.send(result)
