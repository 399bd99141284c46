"""The nodes that an exporter wrote for each call of a layer, by the scope that it gave to each node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from onnx import NodeProto

from harness.inside.calls import Call
from harness.inside.graph import Graph
from harness.inside.nodes.matching import NAME_SCOPES, module_of


@dataclass(frozen=True, slots=True)
class _Group:
    """Nodes of one layer that follow each other, with the text of their scope."""

    path: str
    scope: str
    nodes: list[NodeProto]


def nodes_by_call(graph: Graph, calls: Sequence[Call]) -> list[tuple[Call, list[NodeProto]]]:
    """The calls whose nodes are known, with those nodes. Calls of one layer are distinguished by scope or by order."""
    groups = _groups(graph, {call.scope for call in calls})
    calls_of: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        calls_of[call.scope].append(call)
    found: list[tuple[Call, list[NodeProto]]] = []
    for path, own in calls_of.items():
        found += zip(own, _by_call(groups.get(path, []), len(own)), strict=False)
    return found


def _groups(graph: Graph, paths: set[str]) -> dict[str, list[_Group]]:
    groups: dict[str, list[_Group]] = defaultdict(list)
    last: _Group | None = None
    for node in graph.nodes:
        if graph.is_constant(node):
            continue
        path = module_of(node, paths)
        if path is None:
            continue
        scope = _scope(node)
        if last is None or (last.path, last.scope) != (path, scope):
            last = _Group(path, scope, [])
            groups[path].append(last)
        last.nodes.append(node)
    return groups


def _by_call(groups: Sequence[_Group], calls: int) -> list[list[NodeProto]]:
    """The nodes of each of ``calls`` calls of one layer; none if they cannot be distinguished."""
    if not groups:
        return []
    if calls == 1:
        return [[node for group in groups for node in group.nodes]]
    if len(groups) == calls:
        return [group.nodes for group in groups]
    by_scope: dict[str, list[NodeProto]] = defaultdict(list)
    for group in groups:
        by_scope[group.scope] += group.nodes
    return list(by_scope.values()) if len(by_scope) == calls else []


def _scope(node: NodeProto) -> str:
    for entry in node.metadata_props:
        if entry.key == NAME_SCOPES:
            return str(entry.value)
    return node.name.rpartition("/")[0]
