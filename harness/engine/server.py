"""Processes that begin with the libraries loaded: multiprocessing's, started by the fork server of this process."""

from __future__ import annotations

import io
import os
from multiprocessing import connection, popen_forkserver, spawn, util
from multiprocessing import forkserver as protocol
from multiprocessing.context import ForkServerContext, ForkServerProcess, set_spawning_popen
from multiprocessing.reduction import dump
from typing import Any

from harness import search_path
from harness.engine.exits import SERVER_LOST
from harness.engine.fork_server import SERVER, WorkersCannotStart
from harness.requirements import require_supported


class WorkerProcess(ForkServerProcess):
    """A process that the server starts, told which folders code of the user's may be in."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._offered = search_path.aside()

    def run(self) -> None:
        """Do what the process was made for."""
        search_path.offer(self._offered)
        super().run()

    @staticmethod
    def _Popen(process: Any) -> Any:  # noqa: N802 - multiprocessing's name
        return _Started(process)


class WorkerContext(ForkServerContext):
    """multiprocessing's context, with this module's server."""

    Process = WorkerProcess


class _Started(popen_forkserver.Popen):
    """A process that was started by :data:`SERVER`; the rest is multiprocessing's."""

    def _launch(self, process: Any) -> None:
        about = spawn.get_preparation_data(process.name)
        # A worker looks for modules where the server does, and has no use for the run's script.
        for key in ("sys_path", "init_main_from_name", "init_main_from_path"):
            about.pop(key, None)
        pickled = io.BytesIO()
        set_spawning_popen(self)
        try:
            dump(about, pickled)
            dump(process, pickled)
        finally:
            set_spawning_popen(None)
        SERVER.wait()
        number = SERVER.starts
        try:
            self._start(pickled.getbuffer())
        except (OSError, EOFError) as error:
            if isinstance(error, WorkersCannotStart):
                raise
            SERVER.end_lost(number)  # it was killed a moment ago
            self._start(pickled.getbuffer())

    def _start(self, pickled: memoryview) -> None:
        self.sentinel, to_child = SERVER.connect(self._fds)  # type: ignore[attr-defined]
        # Its other end tells the child that this process is gone.
        kept = (os.dup(to_child), self.sentinel)
        self.finalizer = util.Finalize(self, util.close_fds, kept)  # type: ignore[attr-defined]
        with open(to_child, "wb", closefd=True) as pipe:  # noqa: PTH123 - it is no path
            pipe.write(pickled)
        self.pid = protocol.read_signed(self.sentinel)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code, None while it runs; :data:`SERVER_LOST` where nobody is left to tell it."""
        if self.returncode is None and connection.wait([self.sentinel], 0 if flag == os.WNOHANG else None):
            try:
                self.returncode = protocol.read_signed(self.sentinel)
            except (OSError, EOFError):
                self.returncode = SERVER_LOST
        return self.returncode


def warm_up(*, torch: bool, exporting: bool = True) -> WorkerContext:
    """Start loading the libraries in the background; call it as early as it is known what is needed.

    ``torch`` is False where recorded models are all that is verified, ``exporting`` where no export is to be made. A
    process has one server: later calls get what the first one asked for, and workers load what they lack.

    Raises :class:`UsageError` where the folder for temporary files cannot hold the server's socket, and
    :class:`WorkersCannotStart` where the system lets no process be started, and :class:`RuntimeMissing` where a library
    is too old.
    """
    SERVER.start("exports" if torch and exporting else "specs" if torch else "recorded")
    require_supported(torch=torch)  # asked while the server is loading, so that nobody waits for the answer
    return WorkerContext()
