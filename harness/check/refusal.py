"""Check a case that eager torch refuses: the target must refuse it too, and not answer.

A target may refuse everything, because a library is missing for instance. So a target that refuses the case is also
given a control: a model that no target has a reason to refuse. If it refuses the control as well, that is an error.

:func:`check_opsets` rejects a request for opsets that the installed libraries do not have.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.check.case_context import Refusal
from harness.check.results import with_error, with_mismatch
from harness.check.stages import Clock, StageStopped
from harness.environment import versions
from harness.errors import Location, StageError, UsageError, cause_chain
from harness.exporters import Artifact
from harness.exporters._files import sha256
from harness.registry import plugins
from harness.result import Finding, Result
from harness.runtimes import Session
from harness.spec.language.case import Case, Fill, LayerModel, TensorSpec, WeightedModel
from harness.spec.targets import FILE, Target

CONTROL_CASE = Case(
    id="control",
    about="A ReLU of six numbers.",
    model=WeightedModel(LayerModel("ReLU")),
    inputs=(TensorSpec("x", "float32", (2, 3), fill=Fill("ones")),),
    where=Location("harness"),
)

_CONTROL_FAILURES: dict[str, StageStopped | None] = {}


def check_refusal(refusal: Refusal, raises: str, target: Target, clock: Clock) -> Result:
    """Pass if eager torch raises an error with the text ``raises`` and the target refuses the case as well.

    Exporters and runtimes word the same error in their own way, so any error of theirs counts and becomes a finding,
    unless the target refuses everything. An answer is a mismatch.
    """
    if refusal.inputs is None:
        return refusal.result
    try:
        form = _form_of_answer(refusal, target, clock)
    except StageStopped as stop:
        return with_refusal(refusal, target, stop)
    problem = f"torch raises an error with {raises!r}; {target.runtime} answered with {form}"
    return with_mismatch(refusal.result, [problem], blame="exporter")


def with_refusal(refusal: Refusal, target: Target, stop: StageStopped, *, run: bool = True) -> Result:
    """The result for a target that stopped at ``stop``: passed if it refused the case, an error if it cannot run.

    ``run`` is False if the target was only asked to export.
    """
    if not _is_about_the_case(stop):
        return with_error(refusal.result, stop)
    failure = control_failure(target, refusal.export_control, run=run)
    if failure is not None:
        message = f"{target} refuses a ReLU as well, so it has not refused this case: {failure.message}"
        return replace(with_error(refusal.result, failure), message=message)
    finding = Finding("raises", True, f"{target} refuses at {stop.stage}: {stop.message}")
    return replace(refusal.result, findings=(*refusal.result.findings, finding))


def _is_about_the_case(stop: StageStopped) -> bool:
    """False for a missing module, for missing memory, and if harness itself refused the export."""
    if stop.symptom in {"unavailable", "out-of-memory"} or any(
        isinstance(cause, ImportError) for cause in cause_chain(stop.cause)
    ):
        return False
    return not (stop.stage == "export" and isinstance(stop.cause, StageError) and not stop.cause.from_library)


def _form_of_answer(refusal: Refusal, target: Target, clock: Clock) -> str:
    """The dtypes and shapes of the target's answer. Raises :class:`StageStopped` if it refuses."""
    assert refusal.inputs is not None
    assert refusal.export is not None
    with clock.stage("export"):
        artifact = refusal.export(target)
    with clock.stage("load"):
        session: Session = plugins("runtimes")[target.runtime].load(artifact, target.options)
    try:
        with clock.stage("run"):
            outputs = session.run(refusal.inputs)
        return ", ".join(f"{values.dtype}{list(values.shape)}" for values in outputs.values())
    finally:
        session.close()


def control_failure(
    target: Target, export: Callable[[Target], Artifact] | None, *, run: bool = True
) -> StageStopped | None:
    """The stage at which ``target`` fails on the control that ``export`` makes; None if it runs or there is no control.

    Without ``run`` the control is only exported. Each target is tried once per process.
    """
    if export is None:
        return None
    name = str(target) if run else target.export
    if name not in _CONTROL_FAILURES:
        _CONTROL_FAILURES[name] = _try_control(target, export, run=run)
    return _CONTROL_FAILURES[name]


def _try_control(target: Target, export: Callable[[Target], Artifact], *, run: bool) -> StageStopped | None:
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


def control_onnx_artifact(opset: int | None) -> Artifact:
    """The control as an ONNX file at ``opset``, for machines without an exporter."""
    from onnx import TensorProto, helper, save

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in ("x", "output_0")]
    node = helper.make_node("Relu", ["x"], ["output_0"])
    graph = helper.make_graph([node], "control", values[:1], values[1:])
    opset_import = helper.make_opsetid("", opset or 1)
    path = Path(tempfile.mkdtemp(prefix="control-"), "model.onnx")  # in the worker's folder, which is emptied
    save(helper.make_model_gen_version(graph, opset_imports=[opset_import]), path)
    return Artifact("onnx", path, sha256(path), opset)


def check_opsets(targets: Iterable[Target], *, exporting: bool = True) -> None:
    """Raise :class:`UsageError` for the first of ``targets`` at an opset that is not supported here.

    Either its exporter does not support it, or onnx does not know the opset of a transform. Loads the exporters, and
    torch with them, unless nothing is exported here.
    """
    for target in targets:
        _check_converted_opset(target)
        if not exporting or target.opset is None or target.exporter == FILE:
            continue
        opsets: range = plugins("exporters")[target.exporter].opsets()
        if target.opset not in opsets:
            lowest, highest = opsets.start, opsets.stop - 1
            nearest = lowest if target.opset < lowest else highest
            installed = " and ".join(f"{name} {versions()[name]}" for name in ("torch", "onnx") if name in versions())
            problem = f"{target.exporter} takes opsets {lowest} to {highest} here ({installed}), not {target.opset}"
            raise UsageError(f"{target}: {problem}; write {target.exporter}@{nearest}")


def _check_converted_opset(target: Target) -> None:
    """Raise :class:`UsageError` if a transform of ``target`` converts to an opset that onnx does not know."""
    for word in target.transforms:
        if re.fullmatch(r"opset[0-9]+", word) is None:
            continue
        import onnx

        highest = onnx.defs.onnx_opset_version()
        if int(word.removeprefix("opset")) > highest:
            problem = f"onnx {onnx.__version__} has opsets 1 to {highest}, not {word.removeprefix('opset')}"
            raise UsageError(f"{target}: {problem}; write +opset{highest} or below")
