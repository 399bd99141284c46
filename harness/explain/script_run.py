"""Run a reproduction script, to know whether it shows the failure before a user gets it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

from harness.engine.processes.limits import die_with_parent
from harness.engine.processes.temporary import temporary_folder
from harness.reproduction import REPRODUCED
from harness.result import Result

RAISING_STAGES = ("export", "load", "run")


@dataclass(frozen=True, slots=True)
class ScriptRun:
    """One run of a script: its exit code and the lines that it printed.

    ``exit_code`` is None if the script did not end in time. ``reproduced`` is True if the script showed the failure
    that it was written for.
    """

    exit_code: int | None
    printed: tuple[str, ...]
    reproduced: bool


def run_script(text: str, result: Result, seconds: float) -> ScriptRun:
    """Run ``text`` in a separate Python, in an empty folder. ``result`` is the failure that it should show."""
    with temporary_folder() as folder:
        path = folder / "reproduction.py"
        path.write_text(text, encoding="utf-8")
        command = [sys.executable, "-W", "ignore", path.name]
        try:
            process = subprocess.run(  # noqa: S603 - harness wrote the text, from a validated case
                command,
                cwd=folder,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
                preexec_fn=die_with_parent,
                env={**os.environ, "TMPDIR": str(folder)},  # removes what a script that crashes leaves behind
            )
        except subprocess.TimeoutExpired:
            return ScriptRun(None, (), reproduced=False)
    printed = tuple(line.rstrip() for line in process.stdout.splitlines() if line.strip())
    return ScriptRun(process.returncode, printed, _is_reproduced(process.returncode, printed, result))


def _is_reproduced(exit_code: int, printed: tuple[str, ...], result: Result) -> bool:
    """Whether the last line, or the signal that killed the script, shows the failure and no other one."""
    if result.symptom == "crash":
        return exit_code < 0
    last = printed[-1] if printed else ""
    if exit_code != 1 or not last.startswith(f"{REPRODUCED}: "):
        return False
    raised = next((stage for stage in RAISING_STAGES if last.startswith(f"{REPRODUCED}: {stage} raises")), None)
    return raised == (result.stage if result.stage in RAISING_STAGES else None)
