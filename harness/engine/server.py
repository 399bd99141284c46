"""The fork server: it loads the libraries once, and every worker begins as a copy of it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from multiprocessing import forkserver, get_context, resource_tracker
from multiprocessing.context import ForkServerContext
from pathlib import Path

import psutil

from harness.engine.limits import die_with_parent
from harness.engine.temporary import remove_left_by
from harness.errors import UsageError
from harness.requirements import require_supported


def warm_up(*, torch: bool, exporting: bool = True) -> ForkServerContext:
    """Start loading the libraries in the background; call it as early as it is known what is needed.

    ``torch`` is False where recorded models are all that is verified, ``exporting`` where no export is to be made. A
    process has one server: later calls get what the first one asked for, and workers load what they lack.

    Raises :class:`UsageError` where the folder for temporary files cannot hold the server's socket, and
    :class:`RuntimeMissing` where a library is too old.
    """
    context = get_context("forkserver")
    needed = "preload" if torch and exporting else "preload_kept" if torch else "preload_recorded"
    context.set_forkserver_preload([f"harness.engine.{needed}"])
    resource_tracker.ensure_running()  # it lets Ctrl-C through again when it has started
    # The server is born deaf to Ctrl-C, which is the run's to answer; for the run itself it is only put off.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    except OSError as error:
        raise UsageError(f"TMPDIR {tempfile.gettempdir()}: {error}; name a shorter folder") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    require_supported(torch=torch)  # asked while the server is loading, so that nobody waits for the answer
    return context


def settle() -> None:
    """Make this process the server: unseen, unheard, deaf to Ctrl-C, and gone when the run is gone.

    The server would outlive a run that is killed, for as long as a worker of it runs: workers hold the end of a pipe
    that it listens on. So it dies with the run, and the workers with it; what the run had in temporary folders it takes
    along.
    """
    run, server = os.getppid(), os.getpid()

    def heed(*_: object) -> None:
        if os.getpid() != server:
            os._exit(1)
        # The kernel speaks of the thread that started this process. While others of the run live, there is a run; the
        # signal comes again when the last of them is gone.
        if os.getppid() != run:
            _take_along(run)

    signal.signal(signal.SIGTERM, heed)
    die_with_parent(signal.SIGTERM)
    _pass_for_main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _pass_for_main() -> None:
    """Let workers think that they have the run's script loaded: they would load it anew, and have no use for it."""
    words = psutil.Process(os.getppid()).cmdline()[1:]
    script = next((word for word in words if not word.startswith("-")), None)
    if script is not None:
        sys.modules["__main__"].__file__ = os.path.normpath(Path(script).absolute())


def _take_along(run: int) -> None:
    """End the workers and this process, and leave nothing of the run ``run`` where temporary files are."""
    this = psutil.Process()
    workers = this.children()
    for worker in workers:
        worker.kill()
    psutil.wait_procs(workers, timeout=1)
    remove_left_by(run)
    for listener in this.net_connections("unix"):
        # multiprocessing listens in a folder of its own.
        if (folder := Path(str(listener.laddr)).parent).name.startswith("pymp-"):
            shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)
