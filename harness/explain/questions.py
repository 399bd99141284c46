"""What is asked in a contained process, where torch and the runtimes are loaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from harness.result import Result, Stage
from harness.spec.case import Case, FileModel, PackedModel
from harness.spec.target import Target
from harness.verify.settings import Settings
from harness.walk.found import Walk

Announce = Callable[[Stage], None]


def verified(scratch: Path, case: Case, target: Target, home: Path, *, announce: Announce) -> Result:
    """What the check of ``case`` on ``target`` comes to; nothing is timed and nothing comes from the cache."""
    from harness.verify.stages import Clock

    os.chdir(home)
    clock, settings = Clock(announce, scratch), Settings(latency=False)
    if isinstance(case.model.model, FileModel):
        from harness.verify.recorded import Recording, check_recorded

        return check_recorded(Recording(case), target, settings, clock)
    if isinstance(case.model.model, PackedModel):
        from harness.verify.packed import PackedTrial, check_packed

        return check_packed(PackedTrial(case), target, settings, clock)
    from harness.verify.artifacts import Artifacts
    from harness.verify.check import check
    from harness.verify.trial import Trial

    return check(Trial(case, Artifacts(None, scratch)), target, settings, clock)


def walked(scratch: Path, case: Case, target: Target, home: Path, *, announce: Announce) -> Walk | str:
    """The walk through the graph, or why there is none."""
    from harness.verify.stages import message_of

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
    from harness.verify.artifacts import Artifacts
    from harness.verify.trial import Trial
    from harness.walk.walk import walk

    trial = Trial(case, Artifacts(None, scratch))
    if any(reference.stochastic for reference in trial.references):
        return "the answer is drawn, so there is nothing to hold the nodes against"
    return walk(trial.subject, trial.artifact(target), target, trial.references, scratch)


def _through_the_file(scratch: Path, case: Case, target: Target) -> Walk | str:
    import numpy as np

    from harness.verify.recorded import Recording
    from harness.walk.walk import walk_file

    recording = Recording(case)
    given = [
        {name: value for name, value in data_set.inputs.items() if isinstance(value, np.ndarray)}
        for data_set in recording.data_sets
    ]
    if any(len(arrays) < len(each.inputs) for arrays, each in zip(given, recording.data_sets, strict=True)):
        return "its inputs are not all tensors, and the walk takes nothing else"
    return walk_file(recording.model.artifact, target, given, scratch)


def _through_the_packed_file(scratch: Path, case: Case, target: Target) -> Walk | str:
    from harness.verify.packed import PackedTrial
    from harness.walk.walk import walk_file

    trial = PackedTrial(case)
    return walk_file(trial.artifact(target), target, [each.inputs for each in trial.references], scratch)


def scripted(_scratch: Path, case: Case, target: Target, result: Result, *, announce: Announce) -> str | None:
    """The text of the script, which needs the layers' own tolerances; None where there can be none."""
    from harness.reproduction import reproduction

    announce("build")
    return reproduction(case, target, result)
