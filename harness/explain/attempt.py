"""A script is run before it is handed over."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

from harness.engine.limits import die_with_parent
from harness.engine.temporary import temporary_folder
from harness.reproduction.script import FAULT
from harness.result import Result

STAGES = ("export", "load", "run")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a script did: its exit code, None where it did not end in time, and the lines that it printed.

    ``shows`` is True where it showed the failure that it was written for.
    """

    code: int | None
    printed: tuple[str, ...]
    shows: bool


def attempt(text: str, result: Result, seconds: float) -> Attempt:
    """Run ``text`` in a Python of its own, in an empty folder. ``result`` is what it should show."""
    with temporary_folder() as folder:
        path = folder / "reproduction.py"
        path.write_text(text, encoding="utf-8")
        command = [sys.executable, "-W", "ignore", path.name]
        try:
            ran = subprocess.run(  # noqa: S603 - the text is written here, from a validated case
                command,
                cwd=folder,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
                preexec_fn=die_with_parent,
                env={**os.environ, "TMPDIR": str(folder)},  # what a script that crashes cannot remove goes with it
            )
        except subprocess.TimeoutExpired:
            return Attempt(None, (), shows=False)
    printed = tuple(line.rstrip() for line in ran.stdout.splitlines() if line.strip())
    return Attempt(ran.returncode, printed, _shows(ran.returncode, printed, result))


def _shows(code: int, printed: tuple[str, ...], result: Result) -> bool:
    """A script that breaks down for another reason shows nothing: its last line tells, or how it died."""
    if result.symptom == "crash":
        return code < 0
    last = printed[-1] if printed else ""
    if code != 1 or not last.startswith(f"{FAULT}: "):
        return False
    raised = next((stage for stage in STAGES if last.startswith(f"{FAULT}: {stage} raises")), None)
    return raised == (result.stage if result.stage in STAGES else None)
