"""Layers wired by name: a graph of layers becomes one module.

``torch.fx`` writes the ``forward``, so that trace, script and both ONNX exporters see plain
Python as a user would have written it.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import fx, nn

from harness.model.layers import make
from harness.spec.case import GraphModel, GraphNode, LayerModel


def wire(graph: GraphModel, labels: Sequence[str]) -> fx.GraphModule:
    """The module whose ``forward`` takes ``labels`` by order and returns ``graph.returns``.

    Layers are named after their first output, which is how ``weights`` reaches them: ``pooled.weight``.
    """
    root = nn.Module()
    drawing = fx.Graph()
    values: dict[str, fx.Node] = {label: drawing.placeholder(label) for label in labels}
    for index, node in enumerate(graph.nodes):
        name = node.outputs[0] if not hasattr(root, node.outputs[0]) else f"{node.outputs[0]}_{index}"
        root.add_module(name, make(node.layer))
        inputs = tuple(values[label] for label in node.inputs)
        answer = drawing.call_module(name, inputs, dict(node.layer.forward))
        if len(node.outputs) == 1:
            values[node.outputs[0]] = answer
        else:
            for position, label in enumerate(node.outputs):
                values[label] = drawing.call_function(operator.getitem, (answer, position))
    returned = tuple(values[label] for label in graph.returns)
    drawing.output(returned[0] if len(returned) == 1 else returned)
    drawing.lint()
    return fx.GraphModule(root, drawing)


def bind(layer: LayerModel, labels: Sequence[str]) -> nn.Module:
    """``layer`` with the constant keyword arguments of its ``forward`` held fast; its weights keep their names.

    A layer without any is returned as it is.
    """
    if not layer.forward:
        return make(layer)
    return wire(GraphModel(nodes=(GraphNode(layer, tuple(labels), ("layer",)),), returns=("layer",)), labels)


def parameter_of(module: nn.Module, name: str) -> torch.Tensor | None:
    """The parameter or buffer called ``name``, also inside what :func:`bind` made; None where there is none."""
    held = dict(module.named_parameters()) | dict(module.named_buffers())
    return held.get(name, held.get(f"layer.{name}"))
