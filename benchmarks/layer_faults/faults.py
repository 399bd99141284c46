"""The faults: each changes one node of a graph, or one weight that the node reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
AFFINE = frozenset({"BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization"})
OTHER_OPERATOR = {
    "Relu": "Softplus", "Sigmoid": "HardSigmoid", "Tanh": "Softsign", "Elu": "Selu", "HardSwish": "Mish",
    "MaxPool": "AveragePool", "Erf": "Tanh",
}  # fmt: skip
OTHER_ATTRIBUTE: dict[str, tuple[str, object]] = {
    "LeakyRelu": ("alpha", 0.12), "AveragePool": ("count_include_pad", 0), "Softmax": ("axis", 1),
    "HardSigmoid": ("alpha", 0.17),
}  # fmt: skip
POOLING_ATTRIBUTES = ("kernel_shape", "strides", "pads")


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of one ``kind`` at the node with the number ``node``."""

    kind: str
    node: int
    plant: Callable[[GraphProto, NodeProto], None]

    def planted(self, model: ModelProto) -> ModelProto:
        """A copy of the model with the fault."""
        copy = ModelProto()
        copy.CopyFrom(model)
        self.plant(copy.graph, copy.graph.node[self.node])
        return copy


def faults(model: ModelProto, share: float) -> Iterator[Fault]:
    """Every fault that fits a node. ``share`` is how far a weight is off."""
    weights = {tensor.name for tensor in model.graph.initializer}
    for number, node in enumerate(model.graph.node):
        read = [index for index, name in enumerate(node.input) if name in weights]
        if node.op_type in WEIGHTED and read:
            yield Fault("weight", number, _weight_off(read[0], share))
        if node.op_type in {"Conv", "Gemm"} and 2 in read:
            yield Fault("bias", number, _weight_off(2, share, added=True))
        if node.op_type in AFFINE and 1 in read:
            yield Fault("scale of a normalization", number, _weight_off(1, share))
            if share < 0.05:  # in float16 an epsilon is below what rounding hides
                yield Fault("epsilon", number, _epsilon)
        if node.op_type in OTHER_OPERATOR:
            yield Fault("another operator", number, _other_operator)
        if node.op_type in OTHER_ATTRIBUTE:
            yield Fault("another attribute", number, _other_attribute)
        if node.op_type == "Add" and not read and _is_residual(model.graph, node):
            yield Fault("a difference for a sum", number, _difference)


def _is_residual(graph: GraphProto, node: NodeProto) -> bool:
    made = {name for other in graph.node if other.op_type != "Constant" for name in other.output}
    return all(name in made for name in node.input)


def _weight_off(index: int, share: float, *, added: bool = False) -> Callable[[GraphProto, NodeProto], None]:
    def plant(graph: GraphProto, node: NodeProto) -> None:
        (tensor,) = (each for each in graph.initializer if each.name == node.input[index])
        values = np.array(numpy_helper.to_array(tensor))
        if added:
            values.reshape(-1)[0] += 10 * share
        else:
            values[0] *= 1 + share
        changed = numpy_helper.from_array(values, f"{tensor.name} changed {node.output[0]}")
        graph.initializer.append(changed)
        node.input[index] = changed.name

    return plant


def _epsilon(_graph: GraphProto, node: NodeProto) -> None:
    epsilon = next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5)
    _set(node, "epsilon", 10 * epsilon)


def _other_operator(_graph: GraphProto, node: NodeProto) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name in POOLING_ATTRIBUTES]
    node.op_type = OTHER_OPERATOR[node.op_type]
    del node.attribute[:]
    node.attribute.extend(kept if "Pool" in node.op_type else ())


def _other_attribute(_graph: GraphProto, node: NodeProto) -> None:
    _set(node, *OTHER_ATTRIBUTE[node.op_type])


def _difference(_graph: GraphProto, node: NodeProto) -> None:
    node.op_type = "Sub"


def _set(node: NodeProto, name: str, value: object) -> None:
    for attribute in [each for each in node.attribute if each.name == name]:
        node.attribute.remove(attribute)
    node.attribute.append(helper.make_attribute(name, value))


def without_names(model: ModelProto) -> ModelProto:
    """A copy without names of nodes, and with numbers for the names of values that are no inputs or outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    kept = {value.name for value in (*graph.input, *graph.output)} | {""}
    numbers: dict[str, str] = {}
    for node in graph.node:
        node.name = ""
        del node.metadata_props[:]
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                if name not in kept:
                    names[at] = numbers.setdefault(name, f"v{len(numbers)}")
    for tensor in graph.initializer:
        tensor.name = numbers.get(tensor.name, tensor.name)
    del graph.value_info[:]
    return copy
