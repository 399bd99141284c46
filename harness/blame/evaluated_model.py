"""Prepare an ONNX model for evaluation: its nodes in order, and a wider floating type in place of narrower ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, helper

from harness.data_files.onnx_files import from_array, inner_graphs, sort_nodes, to_array

Array = NDArray[Any]

HALF_TYPES = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})
NARROW_FLOATS = frozenset({*HALF_TYPES, TensorProto.FLOAT})

FLOATS = {"bfloat16", "float16", "float32", "float64"}
"""The dtypes of numbers, unlike those of codes; NumPy's kind does not tell them apart."""

DTYPE_ATTRIBUTES = {"to", "dtype", "output_dtype", "output_datatype", "stash_type", "precision", "softmax_precision"}
"""The attributes of ONNX's operators that hold a data type."""

FLOAT_BY_DEFAULT = {
    "BlackmanWindow": "output_datatype",
    "ConstantOfShape": "value",
    "HammingWindow": "output_datatype",
    "HannWindow": "output_datatype",
    "MelWeightMatrix": "output_datatype",
}
"""Operators whose outputs are float32 unless this attribute says otherwise."""


def with_float64(model: ModelProto) -> ModelProto:
    """A copy of ``model`` with float64 for every narrower floating type: weights, constants, casts and signatures."""
    return _Widening(TensorProto.DOUBLE, NARROW_FLOATS).of_model(model)


def with_float32(model: ModelProto) -> ModelProto:
    """As :func:`with_float64`, but with float32, for the floating types of 16 bits."""
    return _Widening(TensorProto.FLOAT, HALF_TYPES).of_model(model)


def function_with_float64(function: FunctionProto) -> FunctionProto:
    """A copy of ``function`` with float64 for every narrower floating type of its nodes."""
    copy = FunctionProto()
    copy.CopyFrom(function)
    _Widening(TensorProto.DOUBLE, NARROW_FLOATS).nodes(copy.node)
    return copy


def to_float64(values: Any) -> Any:
    """``values`` in float64 if they are floating, bfloat16 included; each array of a list or mapping likewise.

    Types of 8 bits and fewer stay: they are codes, which a scale belongs to.
    """
    if isinstance(values, list):
        return [to_float64(each) for each in values]
    if isinstance(values, dict):
        return {key: to_float64(each) for key, each in values.items()}
    if isinstance(values, np.ndarray | np.generic) and values.dtype.name in FLOATS:
        return values.astype(np.float64)
    return values


@dataclass(frozen=True, slots=True)
class _Widening:
    """Puts the data type ``to`` in place of those in ``narrow``, in place."""

    to: int
    narrow: frozenset[int]

    def of_model(self, model: ModelProto) -> ModelProto:
        """A copy of ``model`` with the wider type."""
        copy = ModelProto()
        copy.CopyFrom(model)
        self.graph(copy.graph)
        for function in copy.functions:
            self.nodes(function.node)
        return copy

    def graph(self, graph: GraphProto) -> None:
        for tensor in graph.initializer:
            self._tensor(tensor)
        for sparse in graph.sparse_initializer:
            self._tensor(sparse.values)
        for value in (*graph.input, *graph.output):
            self._type(value.type)
        del graph.value_info[:]
        self.nodes(graph.node)

    def nodes(self, nodes: Iterable[NodeProto]) -> None:
        for node in nodes:
            _write_float_default(node)
            for attribute in node.attribute:
                if attribute.type == AttributeProto.TENSOR:
                    self._tensor(attribute.t)
                elif attribute.type == AttributeProto.SPARSE_TENSOR:
                    self._tensor(attribute.sparse_tensor.values)
                elif attribute.type == AttributeProto.GRAPH:
                    self.graph(attribute.g)
                elif attribute.name in DTYPE_ATTRIBUTES and attribute.i in self.narrow:
                    attribute.i = self.to
                elif node.op_type == "Constant" and attribute.name in {"value_float", "value_floats"}:
                    _make_tensor(attribute)
                    self._tensor(attribute.t)

    def _type(self, described: TypeProto) -> None:
        """Widen a tensor, and the elements of a sequence or an optional."""
        kind = described.WhichOneof("value")
        if kind == "tensor_type" and described.tensor_type.elem_type in self.narrow:
            described.tensor_type.elem_type = self.to
        elif kind in {"sequence_type", "optional_type"}:
            self._type(getattr(described, kind).elem_type)

    def _tensor(self, tensor: TensorProto) -> None:
        if tensor.data_type in self.narrow:
            name = tensor.name
            tensor.CopyFrom(from_array(to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(self.to)), name))


def _write_float_default(node: NodeProto) -> None:
    """Write down the type float32 where a node has it by default, so that it is widened with those written down."""
    name = FLOAT_BY_DEFAULT.get(node.op_type)
    if node.domain or name is None or any(attribute.name == name for attribute in node.attribute):
        return
    value = helper.make_tensor("", TensorProto.FLOAT, [1], [0.0]) if name == "value" else TensorProto.FLOAT
    node.attribute.append(helper.make_attribute(name, value))


def _make_tensor(attribute: AttributeProto) -> None:
    """Turn a float attribute of a Constant, whose type has no other width, into a tensor."""
    single = attribute.name == "value_float"
    values = np.asarray(attribute.f if single else list(attribute.floats), np.float32)
    attribute.Clear()
    attribute.name, attribute.type = "value", AttributeProto.TENSOR
    attribute.t.CopyFrom(from_array(values))


def in_order(model: ModelProto) -> None:
    """Put the nodes of ``model`` in order (:func:`harness.data_files.onnx_files.sort_nodes`) and name their outputs.

    Outputs without a name that stand before named ones get a name: the evaluator would take what is computed for them
    as the value of every input that is left out.
    """
    sort_nodes(model)
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        _name_outputs(nodes)


def _name_outputs(nodes: Iterable[NodeProto]) -> None:
    for position, node in enumerate(nodes):
        for graph in inner_graphs(node):
            _name_outputs(graph.node)
        while node.output and not node.output[-1]:
            del node.output[-1]
        for index, name in enumerate(node.output):
            if not name:
                node.output[index] = f"unnamed output {index} of node {position} {node.op_type}"
