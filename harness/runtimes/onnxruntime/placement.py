"""Where the nodes of a session run: as onnxruntime recorded it, or, before 1.24, as a profiled run showed it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.runtimes import Placement
from harness.runtimes.onnxruntime.library import CPU

if TYPE_CHECKING:
    import onnx

RECORD = "session.record_ep_graph_assignment_info"

# What says something about a tensor without reading its elements.
_SHAPE_SOURCES = frozenset({"Shape", "Size"})


@dataclass(frozen=True, slots=True)
class Assigned:
    """One node and the provider that took it."""

    ep: str
    name: str
    op_type: str


def recorded(session: Any) -> list[Assigned]:
    """What a session with :data:`RECORD` set tells: the graph as it was handed out, after basic optimization."""
    return [
        Assigned(part.ep_name, node.name, node.op_type)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    ]


def profiled(profile: Path) -> list[Assigned]:
    """What a profile tells of the nodes that ran: the graph after all optimization."""
    events = json.loads(profile.read_text(encoding="utf-8"))
    ran = (event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"))
    nodes = (
        Assigned(event["args"]["provider"], event["name"].removesuffix("_kernel_time"), event["args"]["op_name"])
        for event in ran
    )
    return list(dict.fromkeys(nodes))


def place(asked: str, nodes: Iterable[Assigned], allowed: Collection[str], shapes: Collection[str]) -> Placement:
    """Count the nodes by provider and name the stray ones.

    A node is stray where it runs neither on ``asked`` nor on a provider in ``allowed``, unless it is on the CPU and
    its name is in ``shapes``: onnxruntime keeps arithmetic on shapes on the CPU on purpose.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    stray = []
    for node in nodes:
        counts[node.ep][node.op_type] += 1
        if node.ep not in (asked, *allowed) and not (node.ep == CPU and node.name in shapes):
            stray.append(f"{node.op_type} {node.name} on {node.ep}".replace("  ", " "))
    return Placement(asked, {ep: dict(sorted(ops.items())) for ep, ops in sorted(counts.items())}, tuple(stray))


def shape_arithmetic(graph: onnx.GraphProto, known: Collection[str] = ()) -> frozenset[str]:
    """The names of the nodes that compute with shapes only.

    Those are ``Shape`` and ``Size``, and every node all of whose inputs come from such nodes or are constants; at least
    one must come from such a node. An operator's type alone would not do: ``Slice`` and ``Add`` work on data as well.
    ``known`` are names in an outer graph that hold shapes.
    """
    return frozenset(_shape_nodes(graph, set(known)))


def _shape_nodes(graph: onnx.GraphProto, shapes: set[str]) -> Iterator[str]:
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        read = {name for name in node.input if name}
        if node.op_type == "Constant":
            constants.update(node.output)
        elif node.op_type in _SHAPE_SOURCES or (read & shapes and read <= shapes | constants):
            shapes.update(node.output)
            if node.name:
                yield node.name
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _shape_nodes(inner, set(shapes))
