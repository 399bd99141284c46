"""A script is run before it is handed over.

What is asked in a contained process, where torch and the runtimes are loaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.check.settings import Settings
from harness.engine.processes.limits import die_with_parent
from harness.engine.processes.temporary import temporary_folder
from harness.inside.divergence import Walk
from harness.reproduction import FAULT
from harness.result import Result, Stage
from harness.spec.bundle.entries import PackedModel
from harness.spec.language.case import Case, FileModel
from harness.spec.targets import Target

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


Announce = Callable[[Stage], None]


def verified(scratch: Path, case: Case, target: Target, home: Path, *, announce: Announce) -> Result:
    """What the check of ``case`` on ``target`` comes to; nothing is timed and nothing comes from the cache."""
    from harness.check.stages import Clock

    os.chdir(home)
    clock, settings = Clock(announce, scratch), Settings(latency=False)
    if isinstance(case.model.model, FileModel):
        from harness.check.recorded.recording import RecordedCase, check_recorded

        return check_recorded(RecordedCase(case), target, settings, clock)
    if isinstance(case.model.model, PackedModel):
        from harness.check.recorded.packed import PackedCase, check_packed

        return check_packed(PackedCase(case), target, settings, clock)
    from harness.check.cache.artifacts import ArtifactCache
    from harness.check.check import check
    from harness.check.prepared_case import PreparedCase

    return check(PreparedCase(case, ArtifactCache(None, scratch)), target, settings, clock)


def walked(scratch: Path, case: Case, target: Target, home: Path, *, announce: Announce) -> Walk | str:
    """The walk through the graph, or why there is none."""
    from harness.check.stages import message_of

    os.chdir(home)
    announce("run")
    try:
        return _way_through(case)(scratch, case, target)
    except BaseException as error:  # noqa: BLE001 - a graph that cannot be walked is told, in words
        return message_of(error)


def _way_through(case: Case) -> Callable[[Path, Case, Target], Walk | str]:
    match case.model.model:
        case FileModel():
            return _through_the_file
        case PackedModel():
            return _through_the_packed_file
    return _through_the_export


def _through_the_export(scratch: Path, case: Case, target: Target) -> Walk | str:
    from harness.check.cache.artifacts import ArtifactCache
    from harness.check.prepared_case import PreparedCase
    from harness.inside.walk import walk

    prepared = PreparedCase(case, ArtifactCache(None, scratch))
    if any(reference.stochastic for reference in prepared.references):
        return "the answer is drawn, so there is nothing to hold the nodes against"
    return walk(prepared.subject, prepared.artifact(target), target, prepared.references, scratch)


def _through_the_file(scratch: Path, case: Case, target: Target) -> Walk | str:
    import numpy as np

    from harness.check.recorded.recording import RecordedCase
    from harness.inside.walk import walk_file

    recording = RecordedCase(case)
    given = [
        {name: value for name, value in data_set.inputs.items() if isinstance(value, np.ndarray)}
        for data_set in recording.data_sets
    ]
    if any(len(arrays) < len(each.inputs) for arrays, each in zip(given, recording.data_sets, strict=True)):
        return "its inputs are not all tensors, and the walk takes nothing else"
    return walk_file(recording.model.artifact, target, given, scratch)


def _through_the_packed_file(scratch: Path, case: Case, target: Target) -> Walk | str:
    from harness.check.recorded.packed import PackedCase
    from harness.inside.walk import walk_file

    prepared = PackedCase(case)
    return walk_file(prepared.artifact(target), target, [each.inputs for each in prepared.references], scratch)


def scripted(_scratch: Path, case: Case, target: Target, result: Result, *, announce: Announce) -> str | None:
    """The text of the script, which needs the layers' own tolerances; None where there can be none."""
    from harness.reproduction import reproduction

    announce("build")
    return reproduction(case, target, result)
