"""One small model with its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from harness.data_files.onnx_files import ML_DTYPES, from_array

Array = NDArray[Any]

LEAST_IR_VERSION = 11
"""Knows every data type that the models use."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An operator at one of its versions; ``last`` is the newest opset that the version is valid for."""

    domain: str
    operator: str
    since: int
    last: int


@dataclass(frozen=True, slots=True)
class Case:
    """A model with one node, its name, and its inputs."""

    name: str
    model: ModelProto
    inputs: Mapping[str, Any]

    @property
    def node(self) -> NodeProto:
        """The only node."""
        node: NodeProto = self.model.graph.node[0]
        return node


def case(
    name: str,
    operator: str,
    inputs: Sequence[Array | list[Array] | None],
    opset: int,
    domain: str = "",
    outputs: int = 1,
    constants: Sequence[int] = (),
    **attributes: Any,
) -> Case:
    """A model of one node; the inputs whose positions are in ``constants`` are initializers. A list is a sequence."""
    names = ["" if values is None else f"x{position}" for position, values in enumerate(inputs)]
    node = helper.make_node(
        operator, names, [f"y{index}" for index in range(outputs)], domain=domain, name="node", **attributes
    )
    given = {name: values for name, values in zip(names, inputs, strict=True) if values is not None}
    fixed = {names[position] for position in constants}
    graph = helper.make_graph(
        [node],
        "sweep",
        [_value_info(name, values) for name, values in given.items() if name not in fixed],
        [helper.make_empty_tensor_value_info(output) for output in node.output],
        [from_array(np.asarray(given[name]), name) for name in sorted(fixed)],
    )
    model = stamped(graph, {domain: opset, **({"": 21} if domain else {})})
    return Case(name, model, {name: values for name, values in given.items() if name not in fixed})


def _value_info(name: str, values: Array | list[Array]) -> ValueInfoProto:
    if isinstance(values, list):
        return helper.make_tensor_sequence_value_info(name, elem_type(values[0]), None)
    return helper.make_tensor_value_info(name, elem_type(values), values.shape)


def stamped(graph: Any, opsets: Mapping[str, int]) -> ModelProto:
    """A model of ``graph`` at these opsets."""
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=LEAST_IR_VERSION)


def elem_type(values: Array) -> int:
    """ONNX's number for the dtype of ``values``."""
    names = {dtype: name for name, dtype in ML_DTYPES.items()}
    if values.dtype in names:
        return int(TensorProto.DataType.Value(names[values.dtype]))
    return int(helper.np_dtype_to_tensor_dtype(values.dtype))


def normal(seed: int, *shape: int, dtype: Any = np.float32) -> Array:
    """Values drawn from a normal distribution."""
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def integers(seed: int, low: int, high: int, *shape: int, dtype: Any = np.int64) -> Array:
    """Integers from ``low`` to ``high`` - 1."""
    return np.random.default_rng(seed).integers(low, high, size=shape).astype(dtype)


Cases = Iterator[Case]
