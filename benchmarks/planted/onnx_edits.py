"""Single edits of an ONNX model, in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Array = NDArray[Any]
Change = Callable[[ModelProto], None]


def on(at: int, change: Callable[[NodeProto], None]) -> Change:
    """Apply ``change`` to node ``at``."""
    return lambda model: change(model.graph.node[at])


def on_attribute(at: int, place: int, field: str, value: Any) -> Change:
    """Set one field of an attribute to ``value``."""
    return lambda model: setattr(model.graph.node[at].attribute[place], field, value)


def on_ints(at: int, place: int, entry: int, step: int) -> Change:
    """Add ``step`` to one of an attribute's integers."""

    def change(model: ModelProto) -> None:
        model.graph.node[at].attribute[place].ints[entry] += step

    return change


def turned_round(at: int, place: int) -> Change:
    """Reverse an attribute's integers."""

    def change(model: ModelProto) -> None:
        attribute = model.graph.node[at].attribute[place]
        attribute.ints[:] = list(attribute.ints)[::-1]

    return change


def on_tensor(tensor: Callable[[ModelProto], TensorProto], wrong: Callable[[Array], Array]) -> Change:
    """Apply ``wrong`` to the values of a constant."""

    def change(model: ModelProto) -> None:
        constant = tensor(model)
        with np.errstate(all="ignore"):
            values = wrong(numpy_helper.to_array(constant))
        constant.CopyFrom(numpy_helper.from_array(values, constant.name))

    return change


def without(place: int) -> Callable[[NodeProto], None]:
    """Remove an attribute."""

    def change(node: NodeProto) -> None:
        del node.attribute[place]

    return change


def becomes(op_type: str, *, keep: Sequence[str], inputs: int | None = None) -> Callable[[NodeProto], None]:
    """Replace the operator, and keep only the attributes in ``keep`` and the first ``inputs`` inputs."""

    def change(node: NodeProto) -> None:
        kept = [attribute for attribute in node.attribute if attribute.name in keep]
        node.op_type = op_type
        node.domain = ""
        del node.attribute[:]
        node.attribute.extend(kept)
        if inputs is not None:
            del node.input[inputs:]

    return change


def inputs_exchanged(node: NodeProto) -> None:
    """Exchange the first two inputs."""
    node.input[0], node.input[1] = node.input[1], node.input[0]


def bias_dropped(node: NodeProto) -> None:
    """Remove the third input and all that follow."""
    del node.input[2:]


def other_dtype(now: int, rng: np.random.Generator) -> int:
    """Return a dtype other than ``now``."""
    others = [kind for kind in (TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT32) if kind != now]
    return int(others[int(rng.integers(len(others)))])


def after(model: ModelProto, at: int, steps: Sequence[tuple[str, dict[str, Any]]], kind: int) -> None:
    """Insert ``steps`` before output ``at``."""
    graph = model.graph
    name = graph.output[at].name
    rename(graph, name, f"{name}_before")
    value = f"{name}_before"
    for number, (op_type, attributes) in enumerate(steps):
        made = name if number == len(steps) - 1 else f"{name}_{number}"
        graph.node.append(helper.make_node(op_type, [value], [made], **attributes))
        value = made
    graph.output[at].type.tensor_type.elem_type = kind


def rename(graph: GraphProto, name: str, new: str) -> None:
    """Rename a value in all nodes and initializers; the graph's outputs keep their names."""
    for node in graph.node:
        node.input[:] = [new if value == name else value for value in node.input]
        node.output[:] = [new if value == name else value for value in node.output]
    for tensor in graph.initializer:
        tensor.name = new if tensor.name == name else tensor.name


def renamed(at: int) -> Change:
    """Rename output ``at``."""

    def change(model: ModelProto) -> None:
        name = model.graph.output[at].name
        rename(model.graph, name, f"{name}_")
        model.graph.output[at].name = f"{name}_"

    return change


def dropped(model: ModelProto, at: int) -> None:
    """Remove output ``at``."""
    del model.graph.output[at]


def another_output(model: ModelProto) -> None:
    """Add an output, a copy of the first."""
    first = model.graph.output[0]
    model.graph.node.append(helper.make_node("Identity", [first.name], ["more"]))
    model.graph.output.append(helper.make_tensor_value_info("more", first.type.tensor_type.elem_type, None))


def reordered(model: ModelProto) -> None:
    """Reverse the order of the outputs; each keeps its name."""
    copies = [ValueInfoProto.FromString(value.SerializeToString()) for value in reversed(model.graph.output)]
    del model.graph.output[:]
    model.graph.output.extend(copies)


def exchanged(model: ModelProto) -> None:
    """Exchange the values of the first two outputs."""
    one, other = model.graph.output[0], model.graph.output[1]
    first, second = one.name, other.name
    for old, new in ((first, "between"), (second, first), ("between", second)):
        rename(model.graph, old, new)
    kinds = one.type.tensor_type.elem_type, other.type.tensor_type.elem_type
    one.type.tensor_type.elem_type, other.type.tensor_type.elem_type = kinds[1], kinds[0]
