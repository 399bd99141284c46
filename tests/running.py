"""Run the command line in a separate process, for tests that send signals or set limits."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

PATIENCE = 60.0
PROGRESS = re.compile(
    r"^([\d,]+ of [\d,]+ (checks|exports|measurements)\b|Calling [^\n]* in a separate process)[^\n]*\n", re.MULTILINE
)


class Running:
    """``harness`` with ``arguments``, running in ``folder`` as the leader of a process group, as in a terminal.

    ``limit`` is called in the new process before harness starts. ``paths`` come first in PYTHONPATH.
    """

    def __init__(
        self, folder: Path, *arguments: str, limit: Callable[[], None] | None = None, paths: Sequence[Path] = ()
    ) -> None:
        self.folder = folder

        def as_in_a_terminal() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a background job ignores it, and its children inherit that
            if limit is not None:
                limit()

        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness", *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (*paths, Path(__file__).parents[1])))},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=as_in_a_terminal,  # noqa: PLW1509 - no other thread runs then
        )

    def journal(self, folder: str = "reports/latest") -> list[bytes]:
        """The complete lines of the journal so far."""
        path = self.folder / folder / "journal.jsonl"
        return path.read_bytes().split(b"\n")[:-1] if path.exists() else []

    def until(self, done: Callable[[], object]) -> None:
        """Wait until ``done()``; fail if the run ends first."""
        await_(lambda: done() or self._process.poll() is not None)
        if self._process.poll() is not None:
            raise AssertionError(f"the run ended with {self._process.returncode}: {self._process.communicate()}")

    def started(self) -> list[psutil.Process]:
        """All processes that the run started, directly or not."""
        return psutil.Process(self._process.pid).children(recursive=True)

    def interrupt(self) -> None:
        """Send SIGINT to the run and its process group, as Ctrl-C in a terminal does."""
        os.killpg(self._process.pid, signal.SIGINT)

    def send(self, number: signal.Signals, *, group: bool) -> None:
        """Send a signal to the run; with ``group`` to its process group, as closing the terminal does."""
        (os.killpg if group else os.kill)(self._process.pid, number)

    def kill(self) -> list[psutil.Process]:
        """Kill the run alone with SIGKILL; return the processes that it had started."""
        started = self.started()
        self._process.kill()
        self._process.communicate()
        return started

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; return the exit code, standard output, and standard error without progress."""
        out, err = self._process.communicate(timeout=PATIENCE)
        return self._process.returncode, out, without_progress(err)


def without_progress(err: str) -> str:
    """Standard error without the lines that say how far a run is."""
    return PROGRESS.sub("", err)


def await_(done: Callable[[], object]) -> None:
    """Wait until ``done()``; fail after ``PATIENCE`` seconds."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError("it does not come")
        time.sleep(0.01)


def alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that still run."""
    running = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                running.append(process)
    return running


def rows_of(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a report without their times and the places of exported files."""
    ignored_keys = {"seconds", "latency", "artifact_path"}
    return [{key: row[key] for key in row if key not in ignored_keys} for row in report["results"]]


def report_in(folder: Path) -> dict[str, Any]:
    """Read the report in ``folder``."""
    report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return report


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, str, str, Any, Any]]:
    """Return where the rows of two reports differ: case, target, key and both values."""
    return [
        (one["case"], one["target"], key, one[key], other[key])
        for one, other in zip(rows_of(ours), rows_of(theirs), strict=True)
        for key in one
        if one[key] != other[key]
    ]
