"""Opsets that a target names and the installed libraries do not have: the request is wrong, whatever the model is.

A model that no target has a reason to refuse: where one refuses it, what it refuses says nothing of a layer.

A case that eager torch refuses: a target must refuse it too, and not answer with something.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.check.case_context import CaseContext, Refusal
from harness.check.stages import Clock, StageStopped
from harness.environment import versions
from harness.errors import Location, StageError, UsageError, causes
from harness.exporters import Artifact
from harness.exporters._files import sha256
from harness.registry import plugins
from harness.result import Finding, Result
from harness.runtimes import Session
from harness.spec.language.case import Case, Fill, LayerModel, TensorSpec, WeightedModel
from harness.spec.targets import FILE, Target


def check_opsets(targets: Iterable[Target]) -> None:
    """Raises :class:`UsageError` for the first of ``targets`` at an opset that its exporter does not take here.

    Asks the exporters, which load torch.
    """
    for target in targets:
        if target.opset is None or target.exporter == FILE:
            continue
        opsets: range = plugins("exporters")[target.exporter].opsets()
        if target.opset not in opsets:
            lowest, highest = opsets.start, opsets.stop - 1
            nearest = lowest if target.opset < lowest else highest
            here = " and ".join(f"{name} {versions()[name]}" for name in ("torch", "onnx") if name in versions())
            wrong = f"{target}: {target.exporter} takes opsets {lowest} to {highest} here ({here}), not {target.opset}"
            raise UsageError(f"{wrong}; write {target.exporter}@{nearest}")


Array = NDArray[Any]
Control = Callable[[Target], Artifact]

CASE = Case(
    id="control",
    about="A rectifier of six numbers.",
    model=WeightedModel(LayerModel("ReLU")),
    inputs=(TensorSpec("x", "float32", (2, 3), fill=Fill("ones")),),
    where=Location("harness"),
)

_ENDED: dict[str, StageStopped | None] = {}


def end_of_control(target: Target, export: Control | None, *, run: bool = True) -> StageStopped | None:
    """Where ``target`` stops on the control that ``export`` makes a file of; None where it runs it, or there is none.

    Without ``run`` the file is only made. Each target is asked once in a process.
    """
    if export is None:
        return None
    asked = str(target) if run else target.export
    if asked not in _ENDED:
        _ENDED[asked] = _end(target, export, run=run)
    return _ENDED[asked]


def _end(target: Target, export: Control, *, run: bool) -> StageStopped | None:
    clock = Clock()
    try:
        with clock.stage("export"):
            artifact = export(target)
        if not run:
            return None
        with clock.stage("load"):
            session: Session = plugins("runtimes")[target.runtime].load(artifact, target.options)
        try:
            with clock.stage("run"):
                session.run({"x": np.ones((2, 3), np.float32)})
        finally:
            session.close()
    except StageStopped as stop:
        return stop
    return None


def written_by_hand(like: Artifact) -> Artifact:
    """The control as an ONNX file of the same opset as ``like``, for where there is no exporter."""
    from onnx import TensorProto, helper, save

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in ("x", "output_0")]
    node = helper.make_node("Relu", ["x"], ["output_0"])
    graph = helper.make_graph([node], "control", values[:1], values[1:])
    opset = helper.make_opsetid("", like.opset or 1)
    path = Path(tempfile.mkdtemp(prefix="control-"), "model.onnx")  # in the worker's folder, which is emptied
    save(helper.make_model_gen_version(graph, opset_imports=[opset]), path)
    return Artifact("onnx", path, sha256(path), like.opset)


def check_refusal(context: CaseContext, target: Target, blank: Result, clock: Clock) -> Result:
    """Pass where eager torch raises the text of ``expect.raises`` and the target refuses as well.

    Eager torch must refuse in the words of the spec. Exporters and runtimes have words of their own for the same
    thing, so what they raise counts, and is kept as a finding, unless the target refuses everything. An answer is a
    mismatch.
    """
    refusal = context.refusal(blank, clock)
    told = refusal.told
    if refusal.inputs is None:
        return told
    try:
        answer = _answer(refusal, target, clock)
    except StageStopped as stop:
        return refused(refusal, target, stop)
    said = f"torch raises an error with {context.case.expect.raises!r}; {target.runtime} answered with {answer}"
    return replace(told, status="failed", stage="compare", symptom="mismatch", message=said, blame="exporter")


def refused(refusal: Refusal, target: Target, stop: StageStopped, *, runs: bool = True) -> Result:
    """What a target that did not answer comes to: a pass where it refused the case, an error where it cannot run.

    ``runs`` is False where the export is all that was asked of it.
    """
    told = refusal.told
    if not _is_about_the_case(stop):
        return replace(told, status="error", stage=stop.stage, symptom=stop.symptom, message=stop.message)
    if (end := end_of_control(target, refusal.control, run=runs)) is not None:
        said = f"{target} refuses a ReLU as well, so it has not refused this case: {end.message}"
        return replace(told, status="error", stage=end.stage, symptom=end.symptom, message=said)
    finding = Finding("raises", True, f"{target} refuses at {stop.stage}: {stop.message}")
    return replace(told, findings=(*told.findings, finding))


def _is_about_the_case(stop: StageStopped) -> bool:
    """False for what says nothing of the case: a module or memory is missing, or harness itself refused the export."""
    if stop.symptom in {"unavailable", "out-of-memory"} or any(
        isinstance(cause, ImportError) for cause in causes(stop.cause)
    ):
        return False
    return not (stop.stage == "export" and isinstance(stop.cause, StageError) and not stop.cause.of_library)


def _answer(refusal: Refusal, target: Target, clock: Clock) -> str:
    """What the target answers, in words; raises :class:`StageStopped` where it refuses."""
    assert refusal.inputs is not None
    assert refusal.artifact is not None
    with clock.stage("export"):
        artifact = refusal.artifact(target)
    with clock.stage("load"):
        session: Session = plugins("runtimes")[target.runtime].load(artifact, target.options)
    try:
        with clock.stage("run"):
            outputs = session.run(refusal.inputs)
        return ", ".join(f"{values.dtype}{list(values.shape)}" for values in outputs.values())
    finally:
        session.close()
