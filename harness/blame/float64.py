"""An exported graph evaluated in float64: what the file says, whatever a runtime makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator

from harness.blame.sound_pools import SOUND
from harness.onnx_arrays import from_array, to_array

Array = NDArray[Any]
NARROW = {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT}


def evaluate(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The graph's outputs by name, every floating tensor in float64.

    Evaluated by ``onnx.reference`` with sound pools in place of its own. Raises what the evaluator
    raises for an operator that it does not know.
    """
    return _run(widened(onnx.load(str(path))), {name: wide_array(values) for name, values in inputs.items()})


def evaluate_all(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """As :func:`evaluate`, every value that a node of the graph computes, in the order in which they are computed."""
    model = onnx.load(str(path))
    if model.functions:
        model = inline_local_functions(model)
    evaluator = ReferenceEvaluator(widened(model), new_ops=list(SOUND))
    with np.errstate(all="ignore"):
        values = evaluator.run(None, {name: wide_array(array) for name, array in inputs.items()}, intermediate=True)
    computed = [name for node in model.graph.node for name in node.output if name]
    return {name: np.asarray(values[name]) for name in computed}


def evaluate_as_written(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The same in the graph's own dtypes, with every rounding that the graph itself asks for."""
    return _run(onnx.load(str(path)), inputs)


def _run(model: ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    evaluator = ReferenceEvaluator(model, new_ops=list(SOUND))
    with np.errstate(all="ignore"):
        outputs = evaluator.run(None, dict(inputs))
    return dict(zip((output.name for output in model.graph.output), outputs, strict=True))


def widened(model: ModelProto) -> ModelProto:
    """A copy of ``model`` with float64 for every narrower floating type: weights, constants, casts and signatures."""
    wide = ModelProto()
    wide.CopyFrom(model)
    _widen_graph(wide.graph)
    for function in wide.functions:
        _widen_nodes(function.node)
    return wide


def wide_array(values: Array) -> Array:
    """``values`` in float64 where they are floating, bfloat16 included."""
    return values.astype(np.float64) if values.dtype.kind in "fV" or values.dtype.name == "bfloat16" else values


def _widen_graph(graph: GraphProto) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in NARROW:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    del graph.value_info[:]
    _widen_nodes(graph.node)


def _widen_nodes(nodes: Iterable[NodeProto]) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                _widen_tensor(attribute.t)
            elif attribute.type == AttributeProto.GRAPH:
                _widen_graph(attribute.g)
            elif attribute.name in {"to", "dtype"} and attribute.i in NARROW:
                attribute.i = TensorProto.DOUBLE


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in NARROW:
        name = tensor.name
        tensor.CopyFrom(from_array(wide_array(to_array(tensor)), name))
