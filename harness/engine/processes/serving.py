"""The fork server's own process, from its start to its end, and the libraries that it loads for its workers.

A worker for recorded models has all libraries but torch, one for specs has torch too. Preparing exporters takes as long
as loading everything else, so it is done only where something is to be exported.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing import forkserver
from pathlib import Path

import psutil

from harness.engine.processes.exits import CANNOT_LOAD, REASON_MARK, kill_descendants_of
from harness.engine.processes.limits import RUN_SIGNALS, die_with_parent
from harness.engine.processes.temporary import remove_folders_of
from harness.errors import describe_error
from harness.registry import plugins


def serve(needed: str, listener: int, alive: int, ready: int, log: int) -> None:
    """Load what is ``needed``, report it on ``ready``, and fork workers until nobody holds the other end of ``alive``.

    An error is written to ``log``, in one line after everything else.
    """
    become_server()
    try:
        problem = load(needed)
    except BaseException as error:  # noqa: BLE001 - whatever a library or a plugin raises is reported by the run
        traceback.print_exc()
        _write_reason(log, error)
        os._exit(CANNOT_LOAD)
    if problem is not None:
        _write_reason(log, problem)
    _silence()
    os.write(ready, b"1")
    for file in (ready, log):
        os.close(file)
    forkserver.main(listener, alive, [])


def load(needed: str) -> Exception | None:
    """Load the libraries for what is ``needed``: ``exports``, ``specs`` or ``recorded``.

    Returns the error that keeps exporters from being prepared. If they cannot export either, each check reports that
    itself.
    """
    with frozen_from_gc():
        load_for_recorded_models() if needed == "recorded" else load_for_specs()
        try:
            if needed == "exports":
                load_for_exports()
        except Exception as error:  # noqa: BLE001 - it is reported
            return error
    return None


def _write_reason(log: int, error: BaseException) -> None:
    os.write(log, (REASON_MARK + describe_error(error)).encode(errors="backslashreplace"))


def become_server() -> None:
    """Make this process the server: it ignores Ctrl-C, and ends when the run ends.

    Without this, the server would outlive a killed run for as long as one of its workers runs, because workers hold the
    end of a pipe that it listens on. So it ends with the run, kills the workers, and removes the run's temporary
    folders.
    """
    run, server = os.getppid(), os.getpid()
    tempfile.gettempdir()  # now: Python tests the folder by writing to it, which must not be visible at the end

    def on_sigterm(*_: object) -> None:
        if os.getpid() != server:
            os._exit(1)
        # The kernel sends the signal when the thread that started this process ends. While other threads of the run
        # live, the run goes on; the signal comes again when the last of them is gone.
        if os.getppid() != run:
            _clean_up(run)

    signal.signal(signal.SIGTERM, on_sigterm)
    die_with_parent(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, RUN_SIGNALS)


def _silence() -> None:
    """Redirect the output to the null device: a worker prints nothing until its output is captured."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.__stdout__.fileno() if sys.__stdout__ else 1)
    os.dup2(null, sys.__stderr__.fileno() if sys.__stderr__ else 2)
    os.close(null)


def _clean_up(run: int) -> None:
    """End the workers and this process, and remove the temporary files of the run ``run``."""
    this = psutil.Process()
    workers = this.children()
    for worker in workers:
        worker.kill()
    psutil.wait_procs(workers, timeout=1)
    for worker in workers:
        kill_descendants_of(worker.pid)
    remove_folders_of(run)
    for listener in this.net_connections("unix"):
        # multiprocessing listens in its own folder.
        if (folder := Path(str(listener.laddr)).parent).name.startswith("pymp-"):
            shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


@cache
def load_for_recorded_models() -> None:
    """Load what a recorded model needs. torch need not be installed."""
    import harness.check.recorded.packed
    import harness.check.recorded.recording  # noqa: F401 - loaded here for the workers

    warnings.simplefilter("always")
    plugins("runtimes")
    plugins("compare.metrics")


@cache
def load_for_specs() -> None:
    """Load what a case of a spec needs whose exports are all in the cache."""
    load_for_recorded_models()
    import torch

    # One thread per worker: the workers share the cores, and a fork must not copy a thread pool.
    torch.set_num_threads(1)
    import harness.check.check
    import harness.check.files.contexts
    import harness.check.module.prepared_case  # noqa: F401 - as above

    for kind in ("layers", "exporters", "fixes"):
        plugins(kind)


@cache
def load_for_exports() -> None:
    """Load what a case of a spec needs, and warm up the exporters so that the first export is fast.

    Exports that fail take many workers, so what each of them would work out for a failure is worked out here too.
    """
    load_for_specs()
    from harness.check.cache.entry import exporting_code
    from harness.engine.job import installed_versions
    from harness.exporters._dynamo_cache import warm_up
    from harness.reproduction import script_template

    exporting_code()
    installed_versions()
    script_template()
    warm_up()


@contextmanager
def frozen_from_gc() -> Iterator[None]:
    """Keep what the block loads for the life of the process: the garbage collector never walks it.

    The collector is off in the block, and the loaded objects are frozen after it. Loading makes little garbage, and
    looking for it takes a fifth of the time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
