"""The functions that ``harness explain`` calls in a separate process, where torch and the runtimes are loaded.

Each takes the process's scratch folder first and ``announce``, which it calls with what it knows, by keyword.
What they build and export of one case is shared, as by the checks of a run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.check.settings import Settings
from harness.check.stages import FurtherWork
from harness.engine.worker_status import KeptVerdict
from harness.explain.kept import note_opened_folders
from harness.explain.process import ModelSize
from harness.inside.nodes.divergence import Walk
from harness.result import Result, Stage
from harness.spec.bundle.entries import PackedModel
from harness.spec.language.case import Case, FileModel
from harness.spec.targets import Target

if TYPE_CHECKING:
    from harness.check.files.contexts import CaseContexts

Announce = Callable[[Stage | KeptVerdict | ModelSize], None]

_latest: list[tuple[Case, CaseContexts]] = []
"""The case that was checked last in this process."""


def contexts_of(
    case: Case, scratch: Path, on_size: Callable[[int], None] = lambda _size: None, strict_ulp: int | None = None
) -> CaseContexts:
    """What the calls about one case in this process share: its module, its references and its exports."""
    from harness.check.cache.artifacts import ArtifactCache
    from harness.check.files.contexts import CaseContexts

    if not _latest or _latest[0][0] != case:
        _latest[:] = [(case, CaseContexts(case, ArtifactCache(None, scratch), strict_ulp, on_size=on_size))]
    return _latest[0][1]


def run_check(
    scratch: Path,
    case: Case,
    target: Target,
    home: Path,
    *,
    announce: Announce,
    layers: bool | None = None,
    strict_ulp: int | None = None,
) -> Result:
    """The result of the check of ``case`` on ``target``, without timing and without the artifact cache.

    Without ``layers`` the inside of a failing model is not looked at either. ``strict_ulp`` limits every tolerance; it
    is the same in all calls of one process.
    """
    from harness.check.stages import Clock

    def keep(result: Result, before: FurtherWork) -> None:
        announce(KeptVerdict(os.getpid(), 0, before, result))

    def on_size(size: int) -> None:
        announce(ModelSize(size))

    os.chdir(home)
    note_opened_folders(scratch)
    clock, settings = Clock(announce, scratch, keep), Settings(latency=False, layers=layers, strict_ulp=strict_ulp)
    if isinstance(case.model.model, FileModel):
        from harness.check.recorded.recording import RecordedCase, check_recorded

        return check_recorded(RecordedCase(case, strict_ulp, on_size), target, settings, clock)
    if isinstance(case.model.model, PackedModel):
        from harness.check.recorded.packed import PackedCase, check_packed

        return check_packed(PackedCase(case, strict_ulp, on_size=on_size), target, settings, clock)
    from harness.check.check import check

    return check(contexts_of(case, scratch, on_size, strict_ulp).of(target), target, settings, clock)


def walk_graph(scratch: Path, case: Case, target: Target, home: Path, *, announce: Announce) -> Walk | str:
    """The walk through the graph, or why it is not possible."""
    from harness.check.stages import message_of

    os.chdir(home)
    announce("run")
    try:
        return _walk_of(case, target)(scratch, case, target)
    except BaseException as error:  # noqa: BLE001 - the explanation shows why a graph cannot be walked
        return message_of(error)


def _walk_of(case: Case, target: Target) -> Callable[[Path, Case, Target], Walk | str]:
    match case.model.model:
        case FileModel():
            return _walk_recorded_file
        case PackedModel():
            return _walk_packed_file
    return _walk_tested_file if target.tested_file is not None else _walk_export


def _walk_export(scratch: Path, case: Case, target: Target) -> Walk | str:
    from harness.inside.nodes.walk import walk

    prepared = contexts_of(case, scratch).prepared
    if any(reference.stochastic for reference in prepared.references):
        return "the model is stochastic, so the values of nodes cannot be compared"
    return walk(prepared.subject, prepared.artifact(target), target, prepared.references_for(target), scratch)


def _walk_tested_file(scratch: Path, case: Case, target: Target) -> Walk | str:
    from harness.inside.nodes.walk import walk_file

    context = contexts_of(case, scratch).of(target)
    inputs = [reference.inputs for reference in context.references_for(target)]
    return walk_file(context.artifact(target), target, inputs, scratch)


def _walk_recorded_file(scratch: Path, case: Case, target: Target) -> Walk | str:
    import numpy as np

    from harness.check.recorded.recording import RecordedCase
    from harness.inside.nodes.walk import walk_file

    recording = RecordedCase(case)
    inputs = [
        {name: value for name, value in data_set.inputs.items() if isinstance(value, np.ndarray)}
        for data_set in recording.data_sets
    ]
    if any(len(arrays) < len(each.inputs) for arrays, each in zip(inputs, recording.data_sets, strict=True)):
        return "some inputs are not tensors, and the walk supports tensors only"
    return walk_file(recording.model.artifact, target, inputs, scratch)


def _walk_packed_file(scratch: Path, case: Case, target: Target) -> Walk | str:
    from harness.check.recorded.packed import PackedCase
    from harness.inside.nodes.walk import walk_file

    prepared = PackedCase(case)
    inputs = [reference.inputs for reference in prepared.references_for(target)]
    return walk_file(prepared.artifact(target), target, inputs, scratch)


def write_script(
    _scratch: Path,
    case: Case,
    target: Target,
    result: Result,
    *,
    announce: Announce,
    strict_ulp: int | None = None,
) -> str | None:
    """The text of the script, which needs the layers' default tolerances and so torch; None if there is none."""
    from harness.reproduction import reproduction

    announce("build")
    return reproduction(case, target, result, strict_ulp=strict_ulp)
