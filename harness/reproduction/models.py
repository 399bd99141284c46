"""A model as Python source: what a user would have written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.reproduction.literals import keywords
from harness.spec.case import GraphModel, GraphNode, LayerModel, Model, SequentialModel


@dataclass(frozen=True, slots=True)
class Module:
    """``definition`` is a class for the top of the script, empty where none is needed; ``call`` makes the module."""

    definition: str
    call: str


def module(model: Model, labels: Sequence[str]) -> Module:
    """``model`` for inputs called ``labels``. Raises ``TypeError`` for a model that is not made of torch's layers."""
    match model:
        case LayerModel() if not model.forward:
            return Module("", layer(model))
        case LayerModel():
            return module(GraphModel((GraphNode(model, tuple(labels), ("layer",)),), ("layer",)), labels)
        case SequentialModel(steps):
            inner = [module(step, ["x"]) for step in steps]
            if any(each.definition for each in inner):
                return _sequential(steps)
            return Module("", f"nn.Sequential({', '.join(each.call for each in inner)})")
        case GraphModel():
            return Module(_class(model, labels), "Model()")
    raise TypeError(f"{type(model).__name__} has no source")


def layer(model: LayerModel) -> str:
    """The layer as a call of its class."""
    return f"nn.{model.layer}({keywords(model.args)})"


def parts(model: Model) -> list[LayerModel]:
    """The layers that ``model`` is made of, in order; none where it is not made of torch's layers."""
    match model:
        case LayerModel():
            return [model]
        case SequentialModel(steps):
            return list(steps)
        case GraphModel(nodes):
            return [node.layer for node in nodes]
        case _:
            return []


def weight_name(model: Model, name: str) -> str:
    """What the script's module calls the parameter that a spec calls ``name``."""
    return f"layer.{name}" if isinstance(model, LayerModel) and model.forward else name


def _class(graph: GraphModel, labels: Sequence[str]) -> str:
    names = _names(graph)
    made = [f"        self.{name} = {layer(node.layer)}" for name, node in zip(names, graph.nodes, strict=True)]
    called = [f"        {_call(name, node)}" for name, node in zip(names, graph.nodes, strict=True)]
    return "\n".join(
        [
            "class Model(nn.Module):",
            "    def __init__(self):",
            "        super().__init__()",
            *made,
            "",
            f"    def forward(self, {', '.join(labels)}):",
            *called,
            f"        return {', '.join(graph.returns)}",
        ]
    )


def _call(name: str, node: GraphNode) -> str:
    given = ", ".join([*node.inputs, *filter(None, [keywords(node.layer.forward)])])
    return f"{', '.join(node.outputs)} = self.{name}({given})"


def _names(graph: GraphModel) -> list[str]:
    """Each layer is named after its first output, which is how a spec's weights reach it."""
    names: list[str] = []
    for index, node in enumerate(graph.nodes):
        first = node.outputs[0]
        names.append(first if first not in names else f"{first}_{index}")
    return names


def _sequential(steps: Sequence[LayerModel]) -> Module:
    """Steps with arguments of ``forward``, one after another; their weights keep the names of nn.Sequential."""
    numbered = [f'        self.add_module("{index}", {layer(step)})' for index, step in enumerate(steps)]
    called = [
        f'        x = self.get_submodule("{index}")({", ".join(["x", *filter(None, [keywords(step.forward)])])})'
        for index, step in enumerate(steps)
    ]
    lines = ["class Model(nn.Module):", "    def __init__(self):", "        super().__init__()", *numbered]
    return Module("\n".join([*lines, "", "    def forward(self, x):", *called, "        return x"]), "Model()")
