"""Where the nodes of a session run, and how long each kernel takes.

onnxruntime records the placement; before version 1.24 it is read from a profiled run, as the times are.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data_files.onnx_files import inner_graphs
from harness.runtimes import NodeTimes, Placement
from harness.runtimes._profiles import Event, node_times, read_trace, span_of
from harness.runtimes.onnxruntime.library import CPU

if TYPE_CHECKING:
    import onnx

RECORD_PLACEMENT = "session.record_ep_graph_assignment_info"

# Operators that read the shape of a tensor but not its elements.
_SHAPE_SOURCES = frozenset({"Shape", "Size"})


@dataclass(frozen=True, slots=True)
class PlacedNode:
    """A node and the execution provider that runs it."""

    ep: str
    name: str
    op_type: str


def recorded_nodes(session: Any) -> list[PlacedNode]:
    """The nodes that a session with :data:`RECORD_PLACEMENT` recorded: the graph after basic optimization."""
    return [
        PlacedNode(subgraph.ep_name, node.name, node.op_type)
        for subgraph in session.get_provider_graph_assignment_info()
        for node in subgraph.get_nodes()
    ]


def profiled_nodes(profile: Path) -> list[PlacedNode]:
    """The nodes that ran, from a profile of onnxruntime: the graph after all optimization."""
    events = json.loads(profile.read_text(encoding="utf-8"))
    kernel_events = filter(_is_kernel, events)
    nodes = (
        PlacedNode(event["args"]["provider"], event["name"].removesuffix("_kernel_time"), event["args"]["op_name"])
        for event in kernel_events
    )
    return list(dict.fromkeys(nodes))


def count_nodes(
    requested: str, nodes: Iterable[PlacedNode], allowed: Collection[str], shape_nodes: Collection[str]
) -> Placement:
    """The placement: nodes counted by provider, with the list of stray nodes.

    A node is stray if it runs neither on ``requested`` nor on a provider in ``allowed``. A node on the CPU with a name
    in ``shape_nodes`` is not stray: onnxruntime keeps arithmetic on shapes on the CPU on purpose.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    stray = []
    for node in nodes:
        counts[node.ep][node.op_type] += 1
        if node.ep not in (requested, *allowed) and not (node.ep == CPU and node.name in shape_nodes):
            stray.append(f"{node.op_type} {node.name} on {node.ep}".replace("  ", " "))
    return Placement(requested, {ep: dict(sorted(ops.items())) for ep, ops in sorted(counts.items())}, tuple(stray))


def shape_nodes(graph: onnx.GraphProto, outer_shapes: Collection[str] = ()) -> frozenset[str]:
    """The names of the nodes that compute only with shapes.

    These are ``Shape`` and ``Size``, and every node with all inputs from such nodes or constants, at least one from
    such a node. The operator's type does not decide this: ``Slice`` and ``Add`` work on data as well. ``outer_shapes``
    are names in an outer graph that hold shapes.
    """
    return frozenset(_shape_nodes(graph, set(outer_shapes)))


def _shape_nodes(graph: onnx.GraphProto, shapes: set[str]) -> Iterator[str]:
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        inputs = {name for name in node.input if name}
        if node.op_type == "Constant":
            constants.update(node.output)
        elif node.op_type in _SHAPE_SOURCES or (inputs & shapes and inputs <= shapes | constants):
            shapes.update(node.output)
            if node.name:
                yield node.name
        for subgraph in inner_graphs(node):
            yield from _shape_nodes(subgraph, set(shapes))


PROFILE_WARMUP = 3
"""Runs before those that count."""
_KERNEL = "_kernel_time"
_RUN = "model_run"


def profiled_times(profile: Path, runs: int) -> tuple[NodeTimes, ...]:
    """The nodes of the graph after all optimization, with their times in the last ``runs`` runs."""
    events = read_trace(profile)
    spans = [span_of(event) for event in events if event["name"] == _RUN]
    return node_times(map(_event, filter(_is_kernel, events)), spans[-runs:])


def _is_kernel(event: dict[str, Any]) -> bool:
    return event.get("cat") == "Node" and str(event["name"]).endswith(_KERNEL)


def _event(event: dict[str, Any]) -> Event:
    facts = event["args"]
    name = str(event["name"]).removesuffix(_KERNEL)
    return Event(NodeTimes(name, facts["op_name"], facts["provider"]), *span_of(event))
