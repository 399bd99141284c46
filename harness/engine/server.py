"""The fork server: it loads the libraries once, and every worker begins as a copy of it."""

from __future__ import annotations

import os
import signal
from multiprocessing import forkserver, get_context, resource_tracker
from multiprocessing.context import ForkServerContext

from harness.engine.limits import die_with_parent


def warm_up(*, torch: bool) -> ForkServerContext:
    """Start loading the libraries in the background; call it as early as it is known that checks will run.

    ``torch`` is False where recorded models are all that is verified.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["harness.engine.preload" if torch else "harness.engine.preload_recorded"])
    resource_tracker.ensure_running()  # it lets Ctrl-C through again when it has started
    # The server is born deaf to Ctrl-C, which is the run's to answer; for the run itself it is only put off.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def settle() -> None:
    """Make this process the server: unseen, unheard, deaf to Ctrl-C, and gone when the run is gone.

    The server would outlive a run that is killed, for as long as a worker of it runs: workers hold the end of a pipe
    that it listens on. So it dies with the run, and the workers with it.
    """
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
