"""Writes recorded models for tests: a folder with ``model.onnx``, its inputs and its expected outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper

from harness.data_files.onnx_files import from_array

FLOAT = int(TensorProto.FLOAT)
X = np.array([[1.0, -2.0, 3.0]], np.float32)


def tensor(dtype: int = FLOAT, shape: Sequence[int | None] | None = None) -> TypeProto:
    made: TypeProto = helper.make_tensor_type_proto(dtype, shape)
    return made


def graph(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, TypeProto],
    outputs: Mapping[str, TypeProto],
    *,
    opset: int = 17,
    initializers: Sequence[TensorProto] = (),
) -> ModelProto:
    input_infos, output_infos = ([helper.make_value_info(*item) for item in side.items()] for side in (inputs, outputs))
    made: ModelProto = helper.make_model(
        helper.make_graph(list(nodes), "g", input_infos, output_infos, initializer=list(initializers)),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,
    )
    return made


def one_node(op: str, **attributes: Any) -> ModelProto:
    """A graph of one operator with ``x`` in and ``y`` out, both float32 of any shape."""
    return graph([helper.make_node(op, ["x"], ["y"], **attributes)], {"x": tensor()}, {"y": tensor()})


def record(folder: Path, model: ModelProto, inputs: Sequence[Any], outputs: Sequence[Any], number: int = 0) -> Path:
    """Write a model and one data set; lists become sequences."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    data_set = folder / f"test_data_set_{number}"
    data_set.mkdir()
    for side, values, infos in (("input", inputs, model.graph.input), ("output", outputs, model.graph.output)):
        for index, value in enumerate(values):
            optional = index < len(infos) and infos[index].type.HasField("optional_type")
            (data_set / f"{side}_{index}.pb").write_bytes(_proto(value, optional=optional).SerializeToString())
    return folder


def relu(folder: Path, output: Any = None) -> Path:
    """A ReLU of a fixed shape, which every runtime supports."""
    shape = tensor(FLOAT, X.shape)
    model = graph([helper.make_node("Relu", ["x"], ["y"])], {"x": shape}, {"y": shape})
    return record(folder, model, [X], [np.maximum(X, 0) if output is None else output])


def _proto(value: Any, *, optional: bool) -> Any:
    if isinstance(value, TensorProto):
        return value
    if optional:
        return numpy_helper.from_optional(value)
    return numpy_helper.from_list(value) if isinstance(value, list) else from_array(value)


def stored_outside(location: str) -> onnx.TensorProto:
    """A float32 tensor of three elements with external data in ``location``."""
    made = numpy_helper.from_array(np.ones(3, np.float32), "w")
    made.ClearField("raw_data")
    made.data_location = TensorProto.EXTERNAL
    entry = made.external_data.add()
    entry.key, entry.value = "location", location
    return made
