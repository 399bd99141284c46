"""A model that no target has a reason to refuse: where one refuses it, what it refuses says nothing of a layer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import Location
from harness.exporters import Artifact
from harness.exporters._files import sha256
from harness.registry import plugins
from harness.runtimes import Session
from harness.spec.case import Case, Fill, LayerModel, TensorSpec, WeightedModel
from harness.spec.target import Target
from harness.verify.stages import Clock, StageStopped

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
