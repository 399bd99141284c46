"""Runs new processes, timed from start to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Finished:
    """A finished process: ``seconds`` of wall time, and its output.

    For a run of harness, ``stages`` are the seconds by stage, and ``peak_mb`` is the peak memory of the process without
    its children.
    """

    seconds: float
    output: str
    stages: Mapping[str, float] = field(default_factory=dict)
    peak_mb: float = 0.0


def run_python(
    arguments: Sequence[str], *, cwd: Path, extra: Mapping[str, str] | None = None, accepted: Collection[int] = (0,)
) -> Finished:
    """Run ``python ARGUMENTS``. Raises ``RuntimeError`` if the exit code is not one of ``accepted``."""
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root, **(extra or {})}
    out = cwd / "output.txt"
    began = time.perf_counter()
    with out.open("wb") as output:
        process = subprocess.Popen([sys.executable, *arguments], cwd=cwd, env=environment, stdout=output, stderr=output)
        process.wait()
    seconds = time.perf_counter() - began
    text = out.read_text(encoding="utf-8", errors="replace")
    if process.returncode not in accepted:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}: {text[-2000:]}")
    return Finished(seconds, text)


def harness(spec: Path, folder: Path, *options: str, workers: int = 1, formats: str = "json,md") -> Finished:
    """Run ``harness run`` on ``spec``; the artifact cache is ``folder/cache``, reports go to ``folder/report``."""
    command = ["-m", "benchmarks.speed.stages", str(created(folder) / "stages.json"), str(time.time())]
    command += ["run", str(spec), "-j", str(workers), "--no-latency", "--format", formats]
    command += ["--report-dir", str(folder / "report"), *options]
    # Exit code 1: some check failed, which does not concern the time.
    ended = run_python(command, cwd=folder, extra={"HARNESS_CACHE": str(folder / "cache")}, accepted=(0, 1))
    measured = json.loads((folder / "stages.json").read_text(encoding="utf-8"))
    return replace(ended, stages=measured["seconds"], peak_mb=measured["peak_mb"])


def created(folder: Path) -> Path:
    """Create ``folder`` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def report_in(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the report of the run in ``folder``."""
    report: dict[str, dict[str, Any]] = json.loads((folder / "report" / "report.json").read_bytes())
    return report


def checks(folder: Path) -> int:
    """Return the number of checks of the run in ``folder``."""
    return int(report_in(folder)["summary"]["checks"])
