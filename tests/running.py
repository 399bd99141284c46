"""A run of the command line in a process of its own, for what cannot be done to the process of the tests."""

from __future__ import annotations

import json
import os
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


class Running:
    """``harness`` with ``arguments``, at work in ``folder`` as the leader of a group of processes, as in a terminal.

    ``limit`` is called in the process before it begins; its modules are looked for in ``paths`` first.
    """

    def __init__(
        self, folder: Path, *arguments: str, limit: Callable[[], None] | None = None, paths: Sequence[Path] = ()
    ) -> None:
        self.folder = folder

        def as_in_a_terminal() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a suite in the background is deaf to it, and so its children
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
            preexec_fn=as_in_a_terminal,  # noqa: PLW1509 - no thread runs while it does
        )

    def journal(self, folder: str = "reports/latest") -> list[bytes]:
        """The whole lines of the journal so far."""
        path = self.folder / folder / "journal.jsonl"
        return path.read_bytes().split(b"\n")[:-1] if path.exists() else []

    def until(self, done: Callable[[], object]) -> None:
        """Look again and again until ``done``; the run must not end meanwhile."""
        await_(lambda: done() or self._process.poll() is not None)
        if self._process.poll() is not None:
            raise AssertionError(f"the run ended with {self._process.returncode}: {self._process.communicate()}")

    def started(self) -> list[psutil.Process]:
        """The processes that it started, and those that they did."""
        return psutil.Process(self._process.pid).children(recursive=True)

    def interrupt(self) -> None:
        """What Ctrl-C in a terminal does: the signal goes to the run and to all that it started."""
        os.killpg(self._process.pid, signal.SIGINT)

    def send(self, number: signal.Signals, *, group: bool) -> None:
        """A signal for the run, or for all that it started as well, as where its terminal is closed."""
        (os.killpg if group else os.kill)(self._process.pid, number)

    def kill(self) -> list[psutil.Process]:
        """``kill -9`` of the run alone; the processes that it had started."""
        started = self.started()
        self._process.kill()
        self._process.communicate()
        return started

    def end(self) -> tuple[int, str, str]:
        """The exit code, and what was printed."""
        out, err = self._process.communicate(timeout=PATIENCE)
        return self._process.returncode, out, err


def await_(done: Callable[[], object]) -> None:
    """Return when ``done``; fail where that does not come."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError("it does not come")
        time.sleep(0.01)


def alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that still run."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def rows_of(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a report, without what time and place alone decide."""
    aside = {"seconds", "latency"}
    return [{key: row[key] for key in row if key not in aside} for row in report["results"]]


def report_in(folder: Path) -> dict[str, Any]:
    """The report that was written into ``folder``."""
    report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return report


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, str, str, Any, Any]]:
    """Where the rows of two reports differ: case, target, key and both values."""
    return [
        (one["case"], one["target"], key, one[key], other[key])
        for one, other in zip(rows_of(ours), rows_of(theirs), strict=True)
        for key in one
        if one[key] != other[key]
    ]
