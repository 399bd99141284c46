"""A fresh process, timed from its start to its end."""

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
class Ended:
    """What a process took: ``seconds`` on the wall.

    Of a run of harness, ``stages`` are the seconds by stage, and ``peak_mb`` is the most memory that the process held
    itself, its children left out.
    """

    seconds: float
    said: str
    stages: Mapping[str, float] = field(default_factory=dict)
    peak_mb: float = 0.0


def fresh(
    arguments: Sequence[str], *, cwd: Path, extra: Mapping[str, str] | None = None, well: Collection[int] = (0,)
) -> Ended:
    """Run ``python ARGUMENTS``. Raises ``RuntimeError`` where it does not end with one of the codes ``well``."""
    own = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": own, **(extra or {})}
    out = cwd / "said.txt"
    began = time.perf_counter()
    with out.open("wb") as said:
        process = subprocess.Popen([sys.executable, *arguments], cwd=cwd, env=environment, stdout=said, stderr=said)
        process.wait()
    seconds = time.perf_counter() - began
    text = out.read_text(encoding="utf-8", errors="replace")
    if process.returncode not in well:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}: {text[-2000:]}")
    return Ended(seconds, text)


def harness(spec: Path, folder: Path, *options: str, workers: int = 1, formats: str = "json,md") -> Ended:
    """``harness run`` over ``spec``; exported files are kept in ``folder/cache``, reports go to ``folder/report``."""
    command = ["-m", "benchmarks.speed.stages", str(made(folder) / "stages.json"), str(time.time())]
    command += ["run", str(spec), "-j", str(workers), "--no-latency", "--format", formats]
    command += ["--report-dir", str(folder / "report"), *options]
    # 1: some check failed, which is news of the layers and not of the time
    ended = fresh(command, cwd=folder, extra={"HARNESS_CACHE": str(folder / "cache")}, well=(0, 1))
    told = json.loads((folder / "stages.json").read_text(encoding="utf-8"))
    return replace(ended, stages=told["seconds"], peak_mb=told["peak_mb"])


def made(folder: Path) -> Path:
    """``folder``, made."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def report_in(folder: Path) -> dict[str, dict[str, Any]]:
    """The report of the run in ``folder``."""
    report: dict[str, dict[str, Any]] = json.loads((folder / "report" / "report.json").read_bytes())
    return report


def checks(folder: Path) -> int:
    """How many checks the run in ``folder`` made."""
    return int(report_in(folder)["summary"]["checks"])
