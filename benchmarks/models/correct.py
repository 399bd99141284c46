"""Correct exports of whole models, each through ``harness run``: none of those that are judged may fail."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGETS = ("trace/torch-cpu", "onnx-torchscript/ort-cpu", "onnx-dynamo/ort-cpu")


@dataclass(frozen=True)
class Row:
    """One check of a correct export. ``model`` and ``dtype`` are parts of ``case``.

    ``state`` is ``passed``, ``false alarm``, ``not exported``, ``not loaded`` or ``error``. ``rms`` and ``worst`` are
    the target's errors against float64 in units of eager torch's own, None where the check was not judged so.
    ``reason`` is harness's message, where the check did not pass. ``inconclusive`` is True for a pass that says little.
    """

    case: str
    model: str
    dtype: str
    target: str
    state: str
    rms: float | None
    worst: float | None
    reason: str | None
    inconclusive: bool
    seconds: float

    @property
    def judged(self) -> bool:
        """True if outputs were compared."""
        return self.state in {"passed", "false alarm"}


def run_specs(paths: list[Path], folder: Path, cases: Sequence[str] = (), targets: Sequence[str] = TARGETS) -> None:
    """Run ``harness run`` on ``paths``, or on some ``cases`` of them, with the reports in ``folder``.

    Raises ``RuntimeError`` if the run does not end with a verdict.
    """
    command = [sys.executable, "-m", "harness", "run", *map(str, paths), "--allow-import", "--no-latency", "--no-cache"]
    command += ["--targets", ",".join(targets), "--report-dir", str(folder), "--format", "json,md", "--timeout", "600"]
    command += [word for case in cases for word in ("-k", case)]
    exit_code = subprocess.run(command, check=False).returncode
    if exit_code not in {0, 1}:
        raise RuntimeError(f"harness run ended with exit code {exit_code}")


def rows(folder: Path) -> list[Row]:
    """The checks of a report."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return [_row(result) for result in report["results"]]


def _row(result: Mapping[str, Any]) -> Row:
    name, _, point = result["case"].partition("/")[2].partition("[")
    settings = dict(part.split("=") for part in point.rstrip("]").split(",") if part)
    return Row(
        case=result["case"],
        model=name,
        dtype=settings.get("dtype", "float32"),
        target=result["target"],
        state=_state(result),
        rms=_largest((output.get("rms"), output.get("reference_rms")) for output in result["outputs"]),
        worst=_largest((each["target_max_abs"], each["eager_max_abs"]) for each in result["distances"]),
        reason=result["message"],
        inconclusive=any(output["inconclusive"] for output in result["outputs"]),
        seconds=sum(result["seconds"].values()),
    )


def _state(result: Mapping[str, Any]) -> str:
    if result["status"] in {"passed", "failed"}:
        return "passed" if result["status"] == "passed" else "false alarm"
    return {"export": "not exported", "load": "not loaded", "run": "not loaded"}.get(result["stage"], "error")


def _largest(pairs: Any) -> float | None:
    """The largest quotient of the pairs of numbers; an exact reference counts only where the target is exact too."""
    quotients = [
        one / other if other else 0.0
        for one, other in pairs
        if isinstance(one, float) and isinstance(other, float) and (other or not one)
    ]
    return max(quotients, default=None)
