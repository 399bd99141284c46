"""Where a worker's seconds go: into calls of torch, onnx and ONNX Runtime, or into harness itself.

    python -m benchmarks.speed.own_share SPECS FIGURES.json [--steps | --again]

Every public library call of a check is timed, outermost calls only: constructing and calling layers, exports,
and creating, running and closing sessions. Everything else that the worker does with a job counts as harness's own:
inputs, float64 references, comparing, hashing, files, the journal. With ``--steps`` harness's own steps are timed one
by one too, two hundred thousand times in total, which makes the total a twelfth longer. With ``--again`` some of them
are called twice (:mod:`benchmarks.speed.repeated_calls`).
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

from benchmarks.speed.call_times import CallTimes
from benchmarks.speed.repeated_calls import RepeatedCalls
from benchmarks.speed.steps import BUILT, COPIES, FILES, RUNTIME_IO
from harness.check import check
from harness.check.cache.artifacts import ArtifactCache
from harness.check.judging.judge import Judge
from harness.check.module import prepared_case
from harness.check.module.prepared_case import PreparedCase
from harness.check.settings import Settings
from harness.engine import worker
from harness.engine.job import Job
from harness.engine.journal import JournalWriter
from harness.engine.processes import serving
from harness.engine.processes.output_capture import OutputCapture
from harness.engine.worker_status import WorkerStatus
from harness.model import build, reference
from harness.plan import plan
from harness.registry import plugins
from harness.runtimes._torch_session import TorchSession
from harness.runtimes.onnxruntime.session import OrtSession
from harness.spec.discovery import load_specs

LIBRARY_CALLS: tuple[tuple[Any, str], ...] = (
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
CONSTRUCTED, CLOSED = "torch.nn constructors", "InferenceSession closed"


def timed_calls(*, steps: bool) -> CallTimes:
    """Time the library calls, and with ``steps`` harness's own steps between them."""
    times = CallTimes()
    for owner, name in LIBRARY_CALLS:
        times.time(owner, name, f"{owner.__name__}.{name}", library=True)
    for layer in (each for each in vars(nn).values() if isinstance(each, type) and issubclass(each, nn.Module)):
        times.time(layer, "__init__", CONSTRUCTED, library=True)
    # close() only drops the session.
    times.time(OrtSession, "close", CLOSED, library=True)
    if steps:
        _time_steps(times)
    return times


def _time_steps(times: CallTimes) -> None:
    for exporter in plugins("exporters").values():
        times.time(type(exporter), "export", "exporters: cached tables, reading files back, names and digests")
    for runtime in {type(runtime) for runtime in plugins("runtimes").values()}:
        times.time(runtime, "load", "runtimes: options and sessions")
    steps: tuple[tuple[Any, str, str], ...] = (
        (Path, "mkdir", FILES),
        (Path, "read_bytes", FILES),
        (Path, "write_bytes", FILES),
        (Path, "rename", FILES),
        (ArtifactCache, "get", "artifact cache: keys, temporary files, checksums"),
        (build, "copy_module", COPIES),
        (reference, "copy_module", COPIES),
        (OrtSession, "run", RUNTIME_IO),
        (OrtSession, "placement", RUNTIME_IO),
        (TorchSession, "run", RUNTIME_IO),
        (prepared_case, "build", BUILT),
        (prepared_case, "compute_reference", "running eager torch and the float64 references"),
        (PreparedCase, "_check_against_float64", "comparing eager torch with the float64 references"),
        (Judge, "verdict", "comparing outputs"),
        (check, "with_verdict", "writing messages"),
        (check, "attribute", "finding the blame"),
        (check, "reproduction", "writing reproduction scripts"),
        (OutputCapture, "read_from", "reading captured output"),
        (JournalWriter, "add", "writing the journal"),
    )
    for owner, name, step in steps:
        times.time(owner, name, step)


def main(specs: str, figures: Path, *, steps: bool, again: bool) -> None:
    """Run the jobs as a worker does, and write the seconds of each library call and of each of harness's own ``steps``.

    The exported files stay in a folder beside ``figures``: deleting them would slow down the next measurement.
    """
    read = load_specs([specs], allow_import=False)
    # A worker is replaced after a failed script export, and there is only one worker here.
    targets = [target for target in read.target_sets.select(["default"]) if target.exporter != "script"]
    work = plan(read.cases, targets, (), None).jobs
    with serving.frozen_from_gc():
        serving.load_for_exports()
    home = Path(tempfile.mkdtemp(dir=figures.parent))
    times, repeated = timed_calls(steps=steps), RepeatedCalls() if again else None
    context = worker.WorkerContext(OutputCapture(home / "capture"), WorkerStatus(home / "status"))
    settings, journal = Settings(latency=False, cache=home / "cache"), home / "journal"
    jobs = [Job(case, targets, settings, journal, home, home) for case, targets in work]
    record = JournalWriter(journal).add
    worker.run_checks(jobs[0], context, record)  # not measured: it loads what is needed at the first use
    times.begin()
    for job in jobs[1:]:
        worker.run_checks(job, context, record)
    seconds = times.end()
    library_calls = {*(f"{owner.__name__}.{name}" for owner, name in LIBRARY_CALLS), CONSTRUCTED, CLOSED}
    shares: dict[str, Any] = {"checks": sum(len(job.targets) for job in jobs[1:])}
    shares["libraries"] = {name: took for name, took in seconds.items() if name in library_calls}
    shares["own"] = {name: took for name, took in seconds.items() if name not in library_calls}
    shares["again"] = None if repeated is None else repeated.second / repeated.first
    figures.write_text(json.dumps(shares), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), steps="--steps" in sys.argv, again="--again" in sys.argv)
