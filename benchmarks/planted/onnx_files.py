"""Faults in ONNX files, as a wrong exporter, converter or editor would write them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from benchmarks.planted.onnx_edits import (
    Change,
    after,
    another_output,
    becomes,
    bias_dropped,
    dropped,
    exchanged,
    inputs_exchanged,
    on,
    on_attribute,
    on_ints,
    on_tensor,
    other_dtype,
    renamed,
    reordered,
    turned_round,
    without,
)

Array = NDArray[Any]
Tensor = Callable[[ModelProto], TensorProto]
LIKE = [
    {"Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Softplus", "Softsign", "LeakyRelu", "Elu", "Selu", "HardSigmoid", "Erf"},
    {"Exp", "Log", "Sqrt", "Reciprocal", "Abs", "Neg", "Identity"},
    {"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"},
    {"MaxPool", "AveragePool", "LpPool"},
    {"GlobalAveragePool", "GlobalMaxPool"},
    {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2"},
    {"Softmax", "LogSoftmax", "Hardmax"},
    {"PRelu", "Mul", "Add"},
    {"Floor", "Ceil", "Round"},
    {"Less", "Greater", "Equal"},
    {"ArgMax", "ArgMin"},
]
# Attributes that operators of the same shape share; any other attribute would only be refused.
KEPT = ("kernel_shape", "strides", "pads", "auto_pad", "ceil_mode", "axis", "axes", "keepdims")
FLAGS = {"ceil_mode", "count_include_pad", "keepdims", "transA", "transB", "storage_order", "largest"}
WORDS = {
    "mode": ("nearest", "linear", "constant", "reflect", "edge"),
    "reduction": ("none", "add", "mul"),
    "coordinate_transformation_mode": ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"),
    "nearest_mode": ("floor", "ceil", "round_prefer_floor"),
    "auto_pad": ("NOTSET", "SAME_UPPER", "VALID"),
    "direction": ("forward", "reverse"),
    "approximate": ("none", "tanh"),
}
OTHER_TYPE = {TensorProto.FLOAT: "DOUBLE", TensorProto.INT64: "INT32", TensorProto.DOUBLE: "FLOAT"}


@dataclass(frozen=True, slots=True)
class FileFault:
    """One wrong ONNX file, as a change of the correct one."""

    kind: str
    change: Change

    def planted(self, model: ModelProto) -> ModelProto:
        """Return a copy of ``model`` with the fault, and without the declared shapes that could reveal it."""
        wrong = ModelProto()
        wrong.CopyFrom(model)
        del wrong.graph.value_info[:]
        for value in wrong.graph.output:
            value.type.tensor_type.ClearField("shape")
        self.change(wrong)
        return wrong

    def write(self, source: Path, into: Path) -> None:
        """Copy the file ``source`` to ``into`` with the fault."""
        onnx.save(self.planted(onnx.load(str(source))), str(into))


def file_faults(path: Path, rng: np.random.Generator) -> Iterator[FileFault]:
    """Yield a fault of every kind that applies to the file at ``path``, each at a random place."""
    model = onnx.load(str(path))
    faults = [*_of_nodes(model.graph, rng), *_of_constants(model.graph, rng), *_of_outputs(model.graph, rng)]
    for kind in sorted({fault.kind for fault in faults}):
        alike = [fault for fault in faults if fault.kind == kind]
        yield alike[int(rng.integers(len(alike)))]


def _of_nodes(graph: GraphProto, rng: np.random.Generator) -> Iterator[FileFault]:
    for at, node in enumerate(graph.node):
        yield from _of_attributes(at, node, rng)
        if len([name for name in node.output if name]) == 1 and node.input and node.op_type != "Identity":
            yield FileFault("file: node removed", on(at, becomes("Identity", keep=(), inputs=1)))
        for family in LIKE:
            if node.op_type in family and len([name for name in node.output if name]) == 1:
                others = sorted(family - {node.op_type})
                other = others[int(rng.integers(len(others)))]
                yield FileFault("file: another operator of the same shape", on(at, becomes(other, keep=KEPT)))
        if len(node.input) >= 2 and node.op_type in {"Sub", "Div", "Pow", "MatMul", "PRelu", "Gemm", "Where", "Concat"}:
            yield FileFault("file: inputs of a node exchanged", on(at, inputs_exchanged))
        if len(node.input) >= 3 and node.op_type in {"Gemm", "Conv", "ConvTranspose"} and node.input[2]:
            yield FileFault("file: bias dropped", on(at, bias_dropped))


def _of_attributes(at: int, node: NodeProto, rng: np.random.Generator) -> Iterator[FileFault]:
    for place, attribute in enumerate(node.attribute):
        match attribute.type:
            case AttributeProto.INT:
                yield _of_integer(at, place, attribute, rng)
            case AttributeProto.INTS if attribute.ints:
                yield from _of_integers(at, place, attribute, rng)
            case AttributeProto.FLOAT:
                value = attribute.f
                one = float(np.nextafter(np.float32(value), np.float32(np.inf)))
                yield FileFault("file: attribute, number off by one ULP", on_attribute(at, place, "f", one))
                yield FileFault("file: attribute, number wrong", on_attribute(at, place, "f", value * 1.5 + 0.125))
            case AttributeProto.STRING if attribute.name in WORDS:
                others = [word for word in WORDS[attribute.name] if word != attribute.s.decode()]
                word = others[int(rng.integers(len(others)))]
                yield FileFault("file: attribute, another word", on_attribute(at, place, "s", word.encode()))
            case _:
                continue
        yield FileFault("file: attribute dropped", on(at, without(place)))


def _of_integer(at: int, place: int, attribute: AttributeProto, rng: np.random.Generator) -> FileFault:
    if attribute.name in {"to", "dtype"}:
        dtype = other_dtype(attribute.i, rng)
        return FileFault("file: attribute, dtype changed", on_attribute(at, place, "i", dtype))
    if attribute.name in FLAGS:
        return FileFault("file: attribute, flag turned", on_attribute(at, place, "i", 1 - attribute.i))
    value = attribute.i + (1 if rng.random() < 0.7 else -1)
    return FileFault("file: attribute, integer off by one", on_attribute(at, place, "i", value))


def _of_integers(at: int, place: int, attribute: AttributeProto, rng: np.random.Generator) -> Iterator[FileFault]:
    entry = int(rng.integers(len(attribute.ints)))
    step = 1 if attribute.ints[entry] == 0 or rng.random() < 0.7 else -1
    yield FileFault(f"file: {attribute.name}, one off by one", on_ints(at, place, entry, step))
    if len(set(attribute.ints)) > 1:
        yield FileFault(f"file: {attribute.name}, reversed", turned_round(at, place))


def _of_constants(graph: GraphProto, rng: np.random.Generator) -> Iterator[FileFault]:
    tensors = [_initializer(at) for at in range(len(graph.initializer))]
    tensors += [
        _attribute(at, place)
        for at, node in enumerate(graph.node)
        for place, attribute in enumerate(node.attribute)
        if attribute.type == AttributeProto.TENSOR
    ]
    holder = ModelProto(graph=graph)
    for tensor in tensors:
        values = numpy_helper.to_array(tensor(holder))
        if not values.size:
            continue
        at = int(rng.integers(values.size))
        for kind, change in _changes(values, at):
            yield FileFault(f"file: initializer, {kind}", on_tensor(tensor, change))


def _initializer(at: int) -> Tensor:
    return lambda model: model.graph.initializer[at]


def _attribute(at: int, place: int) -> Tensor:
    return lambda model: model.graph.node[at].attribute[place].t


def _changes(values: Array, at: int) -> Iterator[tuple[str, Callable[[Array], Array]]]:
    def one(change: Callable[[Any], Any]) -> Callable[[Array], Array]:
        def put(array: Array) -> Array:
            wrong = array.copy()
            wrong.flat[at] = change(wrong.flat[at])
            return wrong

        return put

    if values.dtype.kind in "iu":
        yield "integer off by one", one(lambda value: value + 1)
    if values.dtype.kind != "f":
        return
    up = np.asarray(np.inf, values.dtype)
    yield "one ULP in one place", one(lambda value: np.nextafter(value, up))
    yield "one ULP everywhere", lambda array: np.nextafter(array, up)
    yield "a thousandth in one place", one(lambda value: value * 1.001)
    yield "half as large again in one place", one(lambda value: value * 1.5 + 0.125)
    yield "negated", np.negative
    yield "zeroed", np.zeros_like
    yield "stored in float16", lambda array: array.astype(np.float16).astype(array.dtype)
    if values.size > 1:
        yield "shuffled", lambda array: np.roll(array.reshape(-1), 1).reshape(array.shape)
    if values.ndim == 2 and values.shape[0] == values.shape[1] > 1:
        yield "transposed", lambda array: array.T.copy()


def _of_outputs(graph: GraphProto, rng: np.random.Generator) -> Iterator[FileFault]:
    at = int(rng.integers(len(graph.output)))
    kind = graph.output[at].type.tensor_type.elem_type
    wider = getattr(TensorProto, OTHER_TYPE.get(kind, "FLOAT"))
    yield FileFault("file: output of another dtype", lambda model: after(model, at, [("Cast", {"to": wider})], wider))
    if kind == TensorProto.FLOAT:
        halved = [("Cast", {"to": TensorProto.FLOAT16}), ("Cast", {"to": TensorProto.FLOAT})]
        yield FileFault("file: output through float16", lambda model: after(model, at, halved, kind))
        yield FileFault("file: output negated", lambda model: after(model, at, [("Neg", {})], kind))
        yield FileFault("file: output through Relu", lambda model: after(model, at, [("Relu", {})], kind))
    yield FileFault("file: output flattened", lambda model: after(model, at, [("Flatten", {"axis": 0})], kind))
    yield FileFault("file: output transposed", lambda model: after(model, at, [("Transpose", {})], kind))
    yield FileFault("file: output through Identity", lambda model: after(model, at, [("Identity", {})], kind))
    yield FileFault("file: output renamed", renamed(at))
    yield FileFault("file: output dropped", lambda model: dropped(model, at))
    yield FileFault("file: an output too many", another_output)
    if len(graph.output) > 1:
        yield FileFault("file: outputs in another order", reordered)
        yield FileFault("file: outputs exchanged", exchanged)
