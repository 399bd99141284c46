"""The fork server: it loads the libraries once, and every worker begins as a copy of it.

multiprocessing would start one whose first place to look for modules is the working directory, where any ``numpy.py``
would be run; and it would say nothing of a library that cannot be loaded. So the server is started here, and processes
are started by it through multiprocessing's own protocol. :mod:`harness.engine.processes.serving` is what the server itself does.

Processes that begin with the libraries loaded: multiprocessing's, started by the fork server of this process.
"""

from __future__ import annotations

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
from harness.engine.processes.exits import CANNOT_LOAD, MARK, SERVER_LOST, how
from harness.engine.processes.limits import THE_RUNS, blocked, require_files
from harness.engine.processes.temporary import temporary_root
from harness.environment import require_supported
from harness.errors import HarnessError, UsageError

# Python puts the working directory first where it is given a command.
NOT_HERE = "import sys; sys.path[:] = filter(None, sys.path); "
START = (
    NOT_HERE + "import os; os.dup2({log}, 1); os.dup2({log}, 2); "
    "sys.path += [each for each in {folders!r} if each not in sys.path]; "
    "from harness.engine.processes.serving import serve; serve({needed!r}, {listener}, {alive}, {ready}, {log})"
)
TRACKER = "from multiprocessing.resource_tracker import "
# Not all of it is in the types that are published of multiprocessing.
_connection: Any = connection
_util: Any = util
MOST_SAID = 300


class WorkersCannotStart(HarnessError, OSError):
    """No worker process can be started; pebble takes it for the error of the operating system that it may be."""


def cannot_start(reason: object) -> WorkersCannotStart:
    """The error of one line for ``reason``."""
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
        self._alive = self._told = -1
        self._log: IO[bytes] = io.BytesIO()
        self.starts = 0
        """How many there were so far, which is the number of the one that is there."""
        self.problem = ""
        """What the server could not prepare, in one line; empty where nothing was wrong."""

    def start(self, needed: str = "") -> None:
        """Start loading what is ``needed`` in the background, unless there is a server; empty: what was needed before.

        Raises :class:`UsageError` where the folder for temporary files cannot hold the server's socket, and
        :class:`WorkersCannotStart` where the system lets no process be started.
        """
        with self._lock:
            if self._pid is not None and self._owner == os.getpid() and not (self._ready and self._is_gone()):
                return
            self._leave()
            self._needed = needed or self._needed
            try:
                self._open()
            except OSError as error:
                if error.errno is None:  # the socket's path
                    raise UsageError(f"TMPDIR {tempfile.gettempdir()}: {error}; name a shorter folder") from error
                raise cannot_start(error) from error

    def wait(self) -> None:
        """Return when the server can start workers; one that was lost is started anew.

        Raises :class:`WorkersCannotStart`, with the reason, where it cannot load what it should.
        """
        with self._lock:
            self.start()
            if self._ready:
                return
            select.select([self._told], [], [])
            self._ready = bool(os.read(self._told, 1))
            if not self._ready:
                raise cannot_start(self._reason())
            self.problem = self._said()[1]

    def end_lost(self, number: int) -> None:
        """Let server ``number`` be gone, which was found to be: the kernel may be slower to say so than its pipes."""
        with self._lock:
            if self._pid is not None and self._owner == os.getpid() and self.starts == number:
                with suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
                self._leave()

    def connect(self, inherited: list[int]) -> tuple[int, int]:
        """Have a process forked; the ends of the pipes that tell of it and to it."""
        with self._lock:
            self.wait()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(self._address)
                of_child, child_w = os.pipe()
                child_r, to_child = os.pipe()
                try:
                    fds: list[Any] = [child_r, child_w, self._alive, resource_tracker.getfd(), *inherited]
                    reduction.sendfds(client, fds)
                except BaseException:
                    os.close(of_child)
                    os.close(to_child)
                    raise
                finally:
                    os.close(child_r)
                    os.close(child_w)
        return of_child, to_child

    def _open(self) -> None:
        temporary_root()
        require_files(1)
        # These signals go to the whole group of processes where a terminal closes or ``timeout`` ends it. They are for
        # the run to answer. The tracker lets Ctrl-C and SIGTERM through again when it has started.
        with blocked({signal.SIGHUP}):
            resource_tracker.ensure_running()
        with blocked(THE_RUNS):
            self._spawn()
        self.starts += 1

    def _spawn(self) -> None:
        address = _connection.arbitrary_address("AF_UNIX")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            Path(address).chmod(0o600)
            listener.listen()
            log = _memory()
            (alive_r, alive_w), (told_r, told_w) = os.pipe(), os.pipe()
            passed = {"listener": listener.fileno(), "alive": alive_r, "ready": told_w, "log": log.fileno()}
            command = START.format(**passed, needed=self._needed, folders=search_path.for_workers())
            try:
                # Every process that holds the other end of the "alive" pipe keeps the server going.
                self._pid = _python(command, tuple(passed.values()))
            except BaseException:
                for opened in (alive_w, told_r):
                    os.close(opened)
                raise
            finally:
                for opened in (alive_r, told_w):
                    os.close(opened)
        self._address, self._alive, self._told, self._log, self._ready = address, alive_w, told_r, log, False
        self._owner = os.getpid()

    def let_go_on(self) -> None:
        """Let the server go on where code under test has stopped it: only it can start workers and tell their end."""
        with self._lock, suppress(ProcessLookupError):
            if self._pid is not None and self._owner == os.getpid():
                os.kill(self._pid, signal.SIGCONT)

    def _is_gone(self) -> bool:
        assert self._pid is not None
        try:
            return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def _leave(self) -> int:
        """Forget the server, which is gone, and tell how it ended.

        A process that is a fork of the one that started it has none, and leaves that one's alone.
        """
        if self._pid is None:
            return 0
        status = 0
        if self._owner == os.getpid():
            with suppress(ChildProcessError):
                status = os.waitpid(self._pid, 0)[1]
            Path(self._address).unlink(missing_ok=True)
        for opened in (self._alive, self._told):
            os.close(opened)
        self._log.close()
        self._pid, self._ready = None, False
        return os.waitstatus_to_exitcode(status)

    def _reason(self) -> str:
        """How the server ended while it was loading, and what it said last."""
        printed, told = self._said()
        said = told or next((line.strip() for line in reversed(printed) if line.strip()), "")
        code = self._leave()
        return said if said and code == CANNOT_LOAD else ": ".join(filter(None, (how(code), said)))

    def _said(self) -> tuple[list[str], str]:
        """What the server printed, and what it wrote down for the run after that: one line, or nothing."""
        self._log.seek(0)
        printed, _, told = self._log.read().decode(errors="replace").partition(MARK)
        return printed.splitlines(), told[:MOST_SAID]


SERVER = ForkServer()


def _python(command: str, fds: tuple[int, ...]) -> int:
    """Start a Python with ``command``, and tell its process."""
    python = spawn.get_executable()
    flags = _util._args_from_interpreter_flags()  # noqa: SLF001 - as multiprocessing itself starts it
    return int(_util.spawnv_passfds(python, [python, *flags, "-c", command], sorted(fds)))


def _memory() -> IO[bytes]:
    """A file that needs no folder, where the system has such."""
    make = getattr(os, "memfd_create", None)
    return tempfile.TemporaryFile() if make is None else os.fdopen(make("harness"), "w+b")


def _start_tracker_elsewhere() -> None:
    """Let multiprocessing start its resource tracker so that it looks for nothing in the working directory."""
    start = _util.spawnv_passfds

    def started(path: Any, args: Any, fds: Any) -> int:
        *before, command = args
        if isinstance(command, str) and command.startswith(TRACKER):
            command = NOT_HERE + command
        with search_path.named_folders():
            return int(start(path, [*before, command], fds))

    _util.spawnv_passfds = started


_start_tracker_elsewhere()


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


class ServerContext(ForkServerContext):
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


def warm_up(*, torch: bool, exporting: bool = True) -> ServerContext:
    """Start loading the libraries in the background; call it as early as it is known what is needed.

    ``torch`` is False where recorded models are all that is verified, ``exporting`` where no export is to be made. A
    process has one server: later calls get what the first one asked for, and workers load what they lack.

    Raises :class:`UsageError` where the folder for temporary files cannot hold the server's socket, and
    :class:`WorkersCannotStart` where the system lets no process be started, and :class:`RuntimeMissing` where a library
    is too old.
    """
    SERVER.start("exports" if torch and exporting else "specs" if torch else "recorded")
    require_supported(torch=torch)  # asked while the server is loading, so that nobody waits for the answer
    return ServerContext()
