"""What the fork server itself does, from its start to its end."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import traceback
from multiprocessing import forkserver
from pathlib import Path

import psutil

from harness.engine.processes.exits import CANNOT_LOAD, MARK, end_those_of
from harness.engine.processes.limits import THE_RUNS, die_with_parent
from harness.engine.processes.temporary import remove_left_by
from harness.errors import reason


def serve(needed: str, listener: int, alive: int, ready: int, log: int) -> None:
    """Load what is ``needed``, say so on ``ready``, and fork workers until nobody holds the other end of ``alive``.

    What keeps it from that is written to ``log``, in one line after all else.
    """
    settle()
    try:
        problem = load(needed)
    except BaseException as error:  # noqa: BLE001 - whatever a library or a plugin raises is told by the run
        traceback.print_exc()
        _tell(log, error)
        os._exit(CANNOT_LOAD)
    if problem is not None:
        _tell(log, problem)
    _silence()
    os.write(ready, b"1")
    for file in (ready, log):
        os.close(file)
    forkserver.main(listener, alive, [])


def load(needed: str) -> Exception | None:
    """Load the libraries for what is ``needed``: ``exports``, ``specs`` or ``recorded``.

    Gives what keeps exporters from being prepared: where they cannot export either, each check says so for itself.
    """
    from harness.engine.processes import libraries

    with libraries.kept():
        libraries.for_recorded_models() if needed == "recorded" else libraries.for_specs()
        try:
            if needed == "exports":
                libraries.for_exports()
        except Exception as error:  # noqa: BLE001 - it is told
            return error
    return None


def _tell(log: int, error: BaseException) -> None:
    os.write(log, (MARK + reason(error)).encode(errors="backslashreplace"))


def settle() -> None:
    """Make this process the server: deaf to Ctrl-C, and gone when the run is gone.

    The server would outlive a run that is killed, for as long as a worker of it runs: workers hold the end of a pipe
    that it listens on. So it dies with the run, and the workers with it; what the run had in temporary folders it takes
    along.
    """
    run, server = os.getppid(), os.getpid()
    tempfile.gettempdir()  # looked for now: it tries the folder by writing to it, which is not to be seen at the end

    def heed(*_: object) -> None:
        if os.getpid() != server:
            os._exit(1)
        # The kernel speaks of the thread that started this process. While others of the run live, there is a run; the
        # signal comes again when the last of them is gone.
        if os.getppid() != run:
            _take_along(run)

    signal.signal(signal.SIGTERM, heed)
    die_with_parent(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, THE_RUNS)


def _silence() -> None:
    """A worker says nothing where nobody keeps it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.__stdout__.fileno() if sys.__stdout__ else 1)
    os.dup2(nowhere, sys.__stderr__.fileno() if sys.__stderr__ else 2)
    os.close(nowhere)


def _take_along(run: int) -> None:
    """End the workers and this process, and leave nothing of the run ``run`` where temporary files are."""
    this = psutil.Process()
    workers = this.children()
    for worker in workers:
        worker.kill()
    psutil.wait_procs(workers, timeout=1)
    for worker in workers:
        end_those_of(worker.pid)
    remove_left_by(run)
    for listener in this.net_connections("unix"):
        # multiprocessing listens in a folder of its own.
        if (folder := Path(str(listener.laddr)).parent).name.startswith("pymp-"):
            shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)
