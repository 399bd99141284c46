"""An exported graph, with every value in it given out, and its nodes in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, helper, inliner, shape_inference

from harness.onnx_arrays import to_array
from harness.walk.found import Node

Array = NDArray[Any]
MOST_ELEMENTS = 8
FOLDED = frozenset({"Constant"})
"""Nodes that compute nothing."""


def read(path: Path) -> ModelProto:
    """The model at ``path``, its own functions written out in the graph, with the types of values as far as known."""
    model = onnx.load(str(path))
    if model.functions:
        model = inliner.inline_local_functions(model)
    return shape_inference.infer_shapes(model)


def giving_all(model: ModelProto) -> ModelProto:
    """A copy of ``model`` with every tensor that a node computes among its outputs, after its own."""
    opened = ModelProto()
    opened.CopyFrom(model)
    given = {value.name for value in opened.graph.output}
    types = {value.name: value.type for value in opened.graph.value_info}
    for node in opened.graph.node:
        for name in node.output:
            if not name or name in given or (name in types and not types[name].HasField("tensor_type")):
                continue
            given.add(name)
            # The shape is left open: inference before opset 22 is wrong about some pools.
            kind = types[name].tensor_type.elem_type if name in types else 0
            info = (
                helper.make_tensor_value_info(name, kind, None) if kind else helper.make_empty_tensor_value_info(name)
            )
            opened.graph.output.append(info)
    del opened.graph.value_info[:]
    return opened


def described(node: NodeProto, values: Mapping[str, Array]) -> Node:
    """``node`` in words; ``values`` are what its inputs held, as far as they are known."""
    return Node(
        name=node.name,
        op_type=node.op_type if node.domain in {"", "ai.onnx"} else f"{node.domain}::{node.op_type}",
        inputs=tuple(_input(name, values.get(name)) for name in node.input),
        outputs=tuple(node.output),
        attributes=tuple(f"{attribute.name}={_attribute(attribute)}" for attribute in node.attribute),
    )


def _input(name: str, value: Array | None) -> str:
    if not name or value is None:
        return name or "-"
    if value.size <= MOST_ELEMENTS and value.ndim <= 1:
        return f"{name}={np.array2string(value, separator=', ', precision=6)}"
    return f"{name}: {value.dtype}{list(value.shape)}"


def _attribute(attribute: AttributeProto) -> str:
    value = helper.get_attribute_value(attribute)
    if attribute.type == AttributeProto.TENSOR:
        return _input("", None) if value is None else _tensor(to_array(value))
    if attribute.type in {AttributeProto.GRAPH, AttributeProto.GRAPHS}:
        return "{...}"
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _tensor(array: Array) -> str:
    if array.size <= MOST_ELEMENTS:
        return np.array2string(array, separator=", ", precision=6)
    return f"{array.dtype}{list(array.shape)}"
