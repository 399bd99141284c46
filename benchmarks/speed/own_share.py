"""Where a worker's seconds go: inside calls of torch, onnx and ONNX Runtime, or in harness itself.

    python -m benchmarks.speed.own_share SPECS FIGURES.json [--steps | --again]

Every public call of a library that a check makes is timed at its door, outermost calls alone: layers constructed and
called, exports, sessions made, run and let go. All the rest of what the worker does with a job counts as harness's own:
inputs, definitions, comparing, hashing, files, the journal. With
``--steps`` harness's own steps are timed one by one as well, two hundred thousand times in all: that tells which is
how long, and makes the whole longer than it is, by a twelfth. With ``--again`` some of them are called twice
(:mod:`benchmarks.speed.again`).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import torch
from torch import nn

from benchmarks.speed.again import Again
from benchmarks.speed.ledger import Ledger
from benchmarks.speed.steps import ASKED, BUILT, COPIES, FILES
from harness.check import check
from harness.check import prepared_case as prepared
from harness.check.cache.artifacts import Artifacts
from harness.check.case_context import Judge
from harness.check.prepared_case import PreparedCase
from harness.check.settings import Settings
from harness.engine import worker
from harness.engine.job import Job
from harness.engine.journal import JournalWriter
from harness.engine.processes import libraries
from harness.engine.processes.output_capture import OutputCapture
from harness.engine.worker_status import WorkerStatus
from harness.model import build, reference
from harness.model import build as subject
from harness.plan import plan
from harness.registry import plugins
from harness.runtimes._torch_session import TorchSession
from harness.runtimes.onnxruntime.session import OrtSession
from harness.spec.discovery import load

DOORS: tuple[tuple[Any, str], ...] = (
    (torch.onnx, "export"),
    (torch.jit, "trace"),
    (torch.jit, "load"),
    (torch.jit.ScriptModule, "save"),
    (torch.nn.Module, "__call__"),
    (onnx, "load_model_from_string"),
    (onnx.checker, "check_model"),
    (ort, "SessionOptions"),
    (ort.InferenceSession, "__init__"),
    (ort.InferenceSession, "run"),
)
CONSTRUCTED, LET_GO = "torch.nn constructors", "InferenceSession let go"


def watched(*, steps: bool) -> Ledger:
    """A ledger of the doors, and of harness's own ``steps`` between them."""
    ledger = Ledger()
    for owner, name in DOORS:
        ledger.time(owner, name, f"{owner.__name__}.{name}", door=True)
    for layer in (each for each in vars(nn).values() if isinstance(each, type) and issubclass(each, nn.Module)):
        ledger.time(layer, "__init__", CONSTRUCTED, door=True)
    ledger.time(OrtSession, "close", LET_GO, door=True)  # which only drops the session, as the end of a function does
    if steps:
        _time_steps(ledger)
    return ledger


def _time_steps(ledger: Ledger) -> None:
    for exporter in plugins("exporters").values():
        ledger.time(type(exporter), "export", "exporters: tables kept, files read back, names and digests")
    for runtime in {type(runtime) for runtime in plugins("runtimes").values()}:
        ledger.time(runtime, "load", "runtimes: options and sessions")
    own: tuple[tuple[Any, str, str], ...] = (
        (Path, "mkdir", FILES),
        (Path, "read_bytes", FILES),
        (Path, "write_bytes", FILES),
        (Path, "rename", FILES),
        (Artifacts, "get", "exported files: keys, drafts, seals"),
        (subject, "copied", COPIES),
        (build, "copied", COPIES),
        (reference, "copied", COPIES),
        (OrtSession, "run", ASKED),
        (OrtSession, "placement", ASKED),
        (TorchSession, "run", ASKED),
        (prepared, "build", BUILT),
        (prepared, "refer", "eager torch and the definitions asked"),
        (PreparedCase, "_against_oracle", "eager torch held against the definitions"),
        (Judge, "verdict", "answers compared"),
        (check, "_told", "verdicts told"),
        (check, "attribute", "failures blamed"),
        (check, "with_script", "scripts that show a failure"),
        (OutputCapture, "since", "what libraries print, read"),
        (JournalWriter, "add", "the journal"),
    )
    for owner, name, said in own:
        ledger.time(owner, name, said)


def main(specs: str, figures: Path, *, steps: bool, again: bool) -> None:
    """Run the jobs as a worker does, and write the seconds of each door and of each of harness's own ``steps``.

    What is exported stays in a folder beside ``figures``: to delete it would slow down what is measured next.
    """
    read = load([specs], allow_import=False)
    # A worker retires where script fails, and this one is the only one.
    targets = [target for target in read.target_sets.select(["default"]) if target.exporter != "script"]
    work = plan(read.cases, targets, (), None).work
    with libraries.kept():
        libraries.for_exports()
    home = Path(tempfile.mkdtemp(dir=figures.parent))
    ledger, called = watched(steps=steps), Again() if again else None
    context = worker.WorkerContext(OutputCapture(home / "capture"), WorkerStatus(home / "status_record"))
    settings, journal = Settings(latency=False, cache=home / "cache"), home / "journal"
    jobs = [Job(case, targets, settings, journal, home, home) for case, targets in work]
    tell = JournalWriter(journal).add
    worker.work(jobs[0], context, tell)  # what is loaded at the first use is no check's
    ledger.begin()
    for job in jobs[1:]:
        worker.work(job, context, tell)
    seconds = ledger.end()
    doors = {*(f"{owner.__name__}.{name}" for owner, name in DOORS), CONSTRUCTED, LET_GO}
    told: dict[str, Any] = {"checks": sum(len(job.targets) for job in jobs[1:])}
    told["doors"] = {name: took for name, took in seconds.items() if name in doors}
    told["own"] = {name: took for name, took in seconds.items() if name not in doors}
    told["again"] = None if called is None else called.again / called.first
    figures.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), steps="--steps" in sys.argv, again="--again" in sys.argv)
