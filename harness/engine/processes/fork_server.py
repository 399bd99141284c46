"""The fork server of a run: it loads the libraries once, and every worker process starts as a copy of it.

multiprocessing would start a server that looks for modules first in the working directory, where any ``numpy.py`` would
be run, and it would not report a library that cannot be loaded. So the server is started here, and processes are
started by it through multiprocessing's own protocol. :mod:`harness.engine.processes.serving` is the server's own code.
"""

from __future__ import annotations

import atexit
import io
import os
import select
import signal
import socket
import tempfile
import threading
from contextlib import suppress
from multiprocessing import connection, popen_forkserver, reduction, resource_tracker, spawn, util
from multiprocessing import forkserver as protocol
from multiprocessing.context import ForkServerContext, ForkServerProcess, set_spawning_popen
from multiprocessing.reduction import dump
from pathlib import Path
from typing import IO, Any

from harness import search_path
from harness.engine.processes.exits import CANNOT_LOAD, REASON_MARK, SERVER_LOST, describe_exit
from harness.engine.processes.limits import RUN_SIGNALS, blocked, require_files
from harness.engine.processes.temporary import temporary_root
from harness.environment import require_dependencies
from harness.errors import HarnessError, UsageError

# Python puts the working directory first on its path where it is given a command.
WITHOUT_WORKING_DIRECTORY = "import sys; sys.path[:] = filter(None, sys.path); "
START = (
    WITHOUT_WORKING_DIRECTORY + "import os; os.dup2({log}, 1); os.dup2({log}, 2); "
    "sys.path += [each for each in {folders!r} if each not in sys.path]; "
    "from harness.engine.processes.serving import serve; serve({needed!r}, {listener}, {alive}, {ready}, {log})"
)
TRACKER = "from multiprocessing.resource_tracker import "
MAX_REASON_LENGTH = 300
# multiprocessing's published types do not cover all of it.
_connection: Any = connection
_util: Any = util


class WorkersCannotStart(HarnessError, OSError):
    """No worker process can be started. It is an ``OSError``, which pebble handles."""


def cannot_start_error(reason: object) -> WorkersCannotStart:
    """Return the error, in one line with its ``reason``."""
    return WorkersCannotStart(f"worker processes cannot be started: {reason}; run harness doctor")


class ForkServer:
    """The server of this process. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._needed = ""
        self._pid: int | None = None
        self._owner = os.getpid()
        self._ready = False
        self._address = ""
        self._alive_pipe = self._ready_pipe = -1
        self._log: IO[bytes] = io.BytesIO()
        self.starts = 0
        """How many servers were started so far, which is the number of the current one."""
        self.problem = ""
        """What the server could not prepare, in one line; empty where there was no problem."""

    def start(self, needed: str = "") -> None:
        """Start loading what is ``needed`` in the background, unless there is a server.

        An empty string means what was needed before.

        Raises :class:`UsageError` where the folder for temporary files cannot hold the server's socket, and
        :class:`WorkersCannotStart` where the system lets no process be started.
        """
        with self._lock:
            if self._pid is not None and self._owner == os.getpid() and not (self._ready and self._is_gone()):
                return
            self._forget()
            self._needed = needed or self._needed
            try:
                self._open()
            except OSError as error:
                if error.errno is None:  # the socket's path
                    raise UsageError(f"TMPDIR {tempfile.gettempdir()}: {error}; name a shorter folder") from error
                raise cannot_start_error(error) from error

    def wait(self) -> None:
        """Wait until the server can start workers; a server that was lost is started anew.

        Raises :class:`WorkersCannotStart`, with the reason, where it cannot load the libraries.
        """
        with self._lock:
            self.start()
            if self._ready:
                return
            select.select([self._ready_pipe], [], [])
            self._ready = bool(os.read(self._ready_pipe, 1))
            if not self._ready:
                raise cannot_start_error(self._reason())
            self.problem = self._read_log()[1]

    def discard_lost(self, number: int) -> None:
        """Forget server ``number``, which was found to be gone: the kernel may report it later than its pipes do."""
        with self._lock:
            if self._pid is not None and self._owner == os.getpid() and self.starts == number:
                with suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
                self._forget()

    def resume_if_stopped(self) -> None:
        """Resume the server where code under test stopped it: only the server starts workers and reports their end."""
        with self._lock, suppress(ProcessLookupError):
            if self._pid is not None and self._owner == os.getpid():
                os.kill(self._pid, signal.SIGCONT)

    def fork(self, inherited: list[int]) -> tuple[int, int]:
        """Fork a process; return the ends of the pipes that report its end, and that send to it."""
        with self._lock:
            self.wait()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(self._address)
                from_child, child_w = os.pipe()
                child_r, to_child = os.pipe()
                try:
                    fds: list[Any] = [child_r, child_w, self._alive_pipe, resource_tracker.getfd(), *inherited]
                    reduction.sendfds(client, fds)
                except BaseException:
                    os.close(from_child)
                    os.close(to_child)
                    raise
                finally:
                    os.close(child_r)
                    os.close(child_w)
        return from_child, to_child

    def _open(self) -> None:
        temporary_root()
        require_files(1)
        # These signals go to the whole process group when a terminal closes or ``timeout`` ends it. Only the run
        # handles them. The tracker unblocks Ctrl-C and SIGTERM itself when it has started.
        with blocked({signal.SIGHUP}):
            resource_tracker.ensure_running()
        with blocked(RUN_SIGNALS):
            self._spawn()
        self.starts += 1

    def _spawn(self) -> None:
        address = _connection.arbitrary_address("AF_UNIX")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            Path(address).chmod(0o600)
            listener.listen()
            log = _memory_file()
            (alive_r, alive_w), (ready_r, ready_w) = os.pipe(), os.pipe()
            fds = {"listener": listener.fileno(), "alive": alive_r, "ready": ready_w, "log": log.fileno()}
            command = START.format(**fds, needed=self._needed, folders=search_path.worker_path())
            try:
                # Every process that holds the other end of the "alive" pipe keeps the server going.
                self._pid = _start_python(command, tuple(fds.values()))
            except BaseException:
                for opened in (alive_w, ready_r):
                    os.close(opened)
                raise
            finally:
                for opened in (alive_r, ready_w):
                    os.close(opened)
        self._address, self._log, self._ready = address, log, False
        self._alive_pipe, self._ready_pipe = alive_w, ready_r
        self._owner = os.getpid()

    def _is_gone(self) -> bool:
        assert self._pid is not None
        try:
            return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def _forget(self) -> int:
        """Forget the server, which is gone, and return its exit code.

        A fork of the process that started the server has no server of its own, and leaves its parent's alone.
        """
        if self._pid is None:
            return 0
        status = 0
        if self._owner == os.getpid():
            with suppress(ChildProcessError):
                status = os.waitpid(self._pid, 0)[1]
            Path(self._address).unlink(missing_ok=True)
        for opened in (self._alive_pipe, self._ready_pipe):
            os.close(opened)
        self._log.close()
        self._pid, self._ready = None, False
        return os.waitstatus_to_exitcode(status)

    def _reason(self) -> str:
        """How the server ended while it was loading, and its last message."""
        printed, reason = self._read_log()
        message = reason or next((line.strip() for line in reversed(printed) if line.strip()), "")
        code = self._forget()
        if message and code == CANNOT_LOAD:
            return message
        return ": ".join(filter(None, (describe_exit(code), message)))

    def _read_log(self) -> tuple[list[str], str]:
        """The lines that the server printed, and the reason that it wrote after them: one line, or nothing."""
        self._log.seek(0)
        printed, _, reason = self._log.read().decode(errors="replace").partition(REASON_MARK)
        return printed.splitlines(), reason[:MAX_REASON_LENGTH]


SERVER = ForkServer()


def start_server(*, torch: bool, exporting: bool = True) -> ServerContext:
    """Start loading the libraries in the background; call it as soon as it is known what is needed.

    ``torch`` is False where only recorded models are verified, ``exporting`` is False where nothing is to be exported.
    A process has one server: later calls get what the first one asked for, and workers load what they lack.

    Raises :class:`UsageError` where the folder for temporary files cannot hold the server's socket,
    :class:`WorkersCannotStart` where the system lets no process be started, and :class:`RuntimeMissing` where a library
    is too old.
    """
    SERVER.start("exports" if torch and exporting else "specs" if torch else "recorded")
    require_dependencies(torch=torch)  # checked while the server is loading, so nobody waits for it
    return ServerContext()


# multiprocessing's processes, started by the server


class WorkerProcess(ForkServerProcess):
    """A process that the server starts; it knows the folders that a user's code may be in."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._excluded_folders = search_path.excluded_folders()

    def run(self) -> None:
        """Run the target of the process."""
        search_path.remember_excluded(self._excluded_folders)
        super().run()

    @staticmethod
    def _Popen(process: Any) -> Any:  # noqa: N802 - multiprocessing's name
        return _ServerPopen(process)


class ServerContext(ForkServerContext):
    """multiprocessing's context, with this module's server."""

    Process = WorkerProcess


class _ServerPopen(popen_forkserver.Popen):
    """A process that was started by :data:`SERVER`; the rest is multiprocessing's."""

    def _launch(self, process: Any) -> None:
        preparation = spawn.get_preparation_data(process.name)
        # A worker looks for modules where the server does, and does not need the run's script.
        for key in ("sys_path", "init_main_from_name", "init_main_from_path"):
            preparation.pop(key, None)
        pickled = io.BytesIO()
        set_spawning_popen(self)
        try:
            dump(preparation, pickled)
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
            SERVER.discard_lost(number)  # it was killed a moment ago
            self._start(pickled.getbuffer())

    def _start(self, pickled: memoryview) -> None:
        self.sentinel, to_child = SERVER.fork(self._fds)  # type: ignore[attr-defined]
        # Its other end tells the child that this process is gone.
        kept_open = (os.dup(to_child), self.sentinel)
        self.finalizer = util.Finalize(self, util.close_fds, kept_open)  # type: ignore[attr-defined]
        with open(to_child, "wb", closefd=True) as pipe:  # noqa: PTH123 - it is no path
            pipe.write(pickled)
        self.pid = protocol.read_signed(self.sentinel)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code, None while it runs; :data:`SERVER_LOST` where no server is left to report it."""
        if self.returncode is None and connection.wait([self.sentinel], 0 if flag == os.WNOHANG else None):
            try:
                self.returncode = protocol.read_signed(self.sentinel)
            except (OSError, EOFError):
                self.returncode = SERVER_LOST
        return self.returncode


def _start_python(command: str, fds: tuple[int, ...]) -> int:
    """Start a Python process with ``command``, and return its id."""
    python = spawn.get_executable()
    flags = _util._args_from_interpreter_flags()  # noqa: SLF001 - as multiprocessing itself starts it
    return int(_util.spawnv_passfds(python, [python, *flags, "-c", command], sorted(fds)))


def _memory_file() -> IO[bytes]:
    """A file in memory, where the system supports that; otherwise a temporary file."""
    make = getattr(os, "memfd_create", None)
    file: IO[bytes] = os.fdopen(make("harness"), "w+b") if make else tempfile.TemporaryFile()  # noqa: SIM115 - below
    atexit.register(file.close)  # it is read for as long as the server lives, which is until Python ends
    return file


def _patch_resource_tracker() -> None:
    """Make multiprocessing start its resource tracker without the working directory on the module search path."""
    original = _util.spawnv_passfds

    def spawnv_passfds(path: Any, args: Any, fds: Any) -> int:
        *before, command = args
        if isinstance(command, str) and command.startswith(TRACKER):
            command = WITHOUT_WORKING_DIRECTORY + command
        with search_path.NoEmptyPythonPathEntry():
            return int(original(path, [*before, command], fds))

    _util.spawnv_passfds = spawnv_passfds


_patch_resource_tracker()
