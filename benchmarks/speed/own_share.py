"""Where a worker's seconds go: inside calls of torch, onnx and ONNX Runtime, or in harness itself.

    python -m benchmarks.speed.own_share SPECS FIGURES.json

Every public call of a library that a check makes is timed at its door, outermost calls alone; all the rest of what the
worker does with a job counts as harness's own: building, definitions, comparing, hashing, files, the journal.
"""

from __future__ import annotations

import functools
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import torch

from harness.engine import libraries, worker
from harness.engine.chatter import Chatter
from harness.engine.job import Job
from harness.engine.journal import JournalWriter
from harness.engine.whereabouts import Whereabouts
from harness.plan import plan
from harness.spec.discover import load
from harness.verify.settings import Settings

DOORS: tuple[tuple[Any, str], ...] = (
    (torch.onnx, "export"),
    (torch.jit, "trace"),
    (torch.jit, "load"),
    (torch.jit.ScriptModule, "save"),
    (torch.nn.Module, "__call__"),
    (onnx, "load"),
    (onnx.checker, "check_model"),
    (ort.InferenceSession, "__init__"),
    (ort.InferenceSession, "run"),
)


class Doors:
    """Seconds inside the libraries, by the door that was gone through first."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = False
        for owner, name in DOORS:
            setattr(owner, name, self._timed(getattr(owner, name), f"{owner.__name__}.{name}"))

    def _timed(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(call)
        def timed(*given: Any, **named: Any) -> Any:
            if self._inside:
                return call(*given, **named)
            self._inside, began = True, time.perf_counter()
            try:
                return call(*given, **named)
            finally:
                self._inside = False
                self.seconds[name] += time.perf_counter() - began

        return timed


def main(specs: str, figures: Path) -> None:
    """Run the jobs as a worker does, and write the seconds of the whole and of each door."""
    read = load([specs], allow_import=False)
    # A worker retires where script fails, and this one is the only one.
    targets = [target for target in read.target_sets.select(["default"]) if target.exporter != "script"]
    work = plan(read.cases, targets, (), None).work
    with libraries.kept():
        libraries.for_exports()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        desk = worker.Desk(Chatter(home / "chatter"), Whereabouts(home / "whereabouts"))
        settings, journal = Settings(latency=False, cache=home / "cache"), home / "journal"
        jobs = [Job(case, targets, settings, journal, home, home) for case, targets in work]
        tell = JournalWriter(journal).add
        worker.work(jobs[0], desk, tell)  # what is loaded at the first use is no check's
        doors, began = Doors(), time.perf_counter()
        for job in jobs[1:]:
            worker.work(job, desk, tell)
        whole = time.perf_counter() - began
    figures.write_text(json.dumps({"whole": whole, "doors": dict(doors.seconds)}), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
