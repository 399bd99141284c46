"""Questions to a process of their own: whatever becomes of it, the one who asks lives on and learns where it ended.

The process is forked from the server that has loaded the libraries. It answers one question after another, and is
replaced when a question was its end.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from harness.engine.processes.exits import describe_exit, kill_descendants_of
from harness.engine.processes.fork_server import start_server
from harness.result import Stage

T = TypeVar("T")
STAGES: tuple[Stage, ...] = get_args(Stage)
LAST_WORDS = 5.0
"""Seconds that a process is given to be gone once it has closed its end."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A process ended without an answer: the stage that it had announced, and how it ended, in words.

    ``overdue`` is True where it took too long and was ended.
    """

    stage: Stage
    how: str
    overdue: bool


@dataclass(frozen=True, slots=True)
class _Raised:
    """What the question raised, in words."""

    said: str


@dataclass(frozen=True, slots=True)
class _Worker:
    process: ForkServerProcess
    pipe: Connection

    def end(self) -> int:
        """Leave nothing of it, and tell its exit code."""
        self.process.kill()
        self.process.join()
        if self.process.pid is not None:
            kill_descendants_of(self.process.pid)
        code = self.process.exitcode
        self.process.close()
        self.pipe.close()
        return code or 0


class Contained:
    """Asks questions in a process of their own; :meth:`close` ends it.

    ``scratch`` is a folder that it may write to; ``torch`` is False where no question needs it, and ``exporting``
    where none exports.
    """

    def __init__(self, scratch: Path, *, torch: bool, exporting: bool = True) -> None:
        self._scratch, self._torch = scratch, torch
        self._context = start_server(torch=torch, exporting=exporting)
        self._worker: _Worker | None = None

    def ask(self, question: Callable[..., T], *about: Any, seconds: float) -> T | Gone:
        """What ``question(scratch, *about, announce=...)`` returns. The question calls ``announce`` with each stage.

        Raises ``RuntimeError`` for what the question itself raised: questions are expected to catch what they expect.
        """
        worker = self._worker = self._worker or self._new()
        with suppress(BrokenPipeError):  # it has just died, which is seen at once when its answer is waited for
            worker.pipe.send((question, about))
        answer = _read(worker, seconds)
        if isinstance(answer, _Ended):
            self._worker = None
            return answer.told(worker.end(), seconds)
        if isinstance(answer, _Raised):
            raise RuntimeError(answer.said)  # noqa: TRY004 - it is not a wrong type, it is the question's own error
        return cast("T", answer)

    def close(self) -> None:
        """End the process, as after a question that leaves it in doubt; the next question is asked in a new one."""
        if self._worker is not None:
            self._worker.end()
            self._worker = None

    def _new(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        given = (theirs, self._scratch, self._torch)
        process = self._context.Process(target=_serve, args=given, daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)


@dataclass(frozen=True, slots=True)
class _Ended:
    stage: Stage
    overdue: bool

    def told(self, code: int, seconds: float) -> Gone:
        if self.overdue:
            return Gone(self.stage, f"not done after {seconds:.0f} s", overdue=True)
        return Gone(self.stage, describe_exit(code), overdue=False)


def _read(worker: _Worker, seconds: float) -> Any:
    """The answer, or where the process ended; stages that it announces meanwhile are kept."""
    stage: Stage = "build"
    until = time.monotonic() + seconds
    while True:
        ready = wait([worker.pipe, worker.process.sentinel], max(0.0, until - time.monotonic()))
        if not ready:
            return _Ended(stage, overdue=True)
        if worker.pipe not in ready:
            return _Ended(stage, overdue=False)
        try:
            said = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join(LAST_WORDS)
            return _Ended(stage, overdue=False)
        if not (isinstance(said, str) and said in STAGES):
            return said
        stage = said


def _serve(pipe: Connection, scratch: Path, torch: bool) -> None:
    from harness.check.stages import message_of
    from harness.engine.processes import libraries
    from harness.engine.processes.exits import become_subreaper
    from harness.engine.processes.limits import die_with_parent

    die_with_parent()
    become_subreaper()
    tempfile.tempdir = str(scratch)  # where nothing is left, whatever becomes of this process
    libraries.load_for_specs() if torch else libraries.load_for_recorded_models()
    with suppress(EOFError):
        while True:
            question, about = pipe.recv()
            try:
                answer = question(scratch, *about, announce=pipe.send)
            except BaseException as error:  # noqa: BLE001 - it travels to the one who asked, who raises it
                answer = _Raised(message_of(error))
            pipe.send(answer)
