"""What no evaluation of a graph can settle, so that nobody can be blamed for another answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import onnx
from onnx import NodeProto

DRAWING = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)


def unsettled(path: Path) -> str | None:
    """Why nobody can be blamed for what the graph at ``path`` answers; None where there is no reason."""
    model = onnx.load(str(path), load_external_data=False)
    nodes = list(_nodes(chain(model.graph.node, *(function.node for function in model.functions))))
    if drawn := sorted({node.op_type for node in nodes if _draws(node)}):
        return f"the graph draws random numbers ({', '.join(drawn)}): no two implementations draw the same"
    if any(node.op_type == "MaxUnpool" and _has_input(node, 2) for node in nodes):
        # https://github.com/onnx/onnx/issues/2398
        return "ONNX leaves open what MaxUnpool's output_shape means for its indices"
    return None


def _draws(node: NodeProto) -> bool:
    """Dropout counts where it is told whether it trains: whether it does is known only as it runs."""
    return node.op_type in DRAWING or (node.op_type == "Dropout" and _has_input(node, 2))


def _has_input(node: NodeProto, index: int) -> bool:
    return len(node.input) > index and bool(node.input[index])


def _nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes, and those of every graph inside them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner.node)
