"""Runs one part on one side of the replay: with that tree's harness and its own cache, in this environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.replay.compare import Rows, rows_of
from benchmarks.replay.material import Part
from benchmarks.replay.trees import ReplayError, Tree

TIMEOUT = 300
PROBE = "import harness; print(harness.__file__)"


@dataclass(frozen=True, slots=True)
class Side:
    """The outcome of one side of a part. ``rows`` is None if the run wrote no report."""

    exit_code: int
    rows: Rows | None
    seconds: float
    output: str


def imported_from(tree: Tree) -> Path:
    """The folder that ``import harness`` takes in ``tree``.

    Raises :class:`ReplayError` if it is another tree's: then both sides would run the same code.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=tree.root,
        env=_environment(tree, cache=None),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ReplayError(f"harness of {tree.label} cannot be imported: {(done.stderr.splitlines() or ['?'])[-1]}")
    found = Path(done.stdout.strip()).resolve().parent
    if not found.is_relative_to(tree.root.resolve()):
        raise ReplayError(f"{tree.label} would run the harness of {found}; its own is in {tree.root}")
    return found


def run_part(part: Part, tree: Tree, folder: Path, *, cache: Path, jobs: int | None, keywords: Sequence[str]) -> Side:
    """Run ``part`` with the harness of ``tree``; the report and the output are written to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "harness", "run", *part.paths, "--no-latency", "--format", "json"]
    command += ["--timeout", str(TIMEOUT), "--report-dir", str(folder)]
    command += ["--targets", ",".join(part.targets)] if part.targets else []
    command += ["--known-failures", str(part.known_failures)] if part.known_failures else []
    command += ["-j", str(jobs)] if jobs else []
    command += [word for keyword in keywords for word in ("-k", keyword)]
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=tree.root, env=_environment(tree, cache), capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - began
    (folder / "output.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    return Side(done.returncode, _rows(report), round(seconds, 1), done.stderr)


def _rows(report: Path) -> Rows | None:
    if not report.exists():
        return None
    try:
        return rows_of(json.loads(report.read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError) as error:
        raise ReplayError(f"{report}: not a report that can be compared: {error}") from error


def _environment(tree: Tree, cache: Path | None) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(tree.root), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path} | ({"HARNESS_CACHE": str(cache)} if cache else {})
