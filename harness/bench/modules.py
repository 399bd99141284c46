"""Which torch module each timed node of an ONNX file belongs to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from harness.runtimes import NodeTimes


def with_modules(times: Sequence[NodeTimes], path: Path, modules: Collection[str]) -> tuple[NodeTimes, ...]:
    """``times`` with the path of each node's module among ``modules``, by the scope that the exporter wrote.

    A node that the runtime fused from others, under a name of its own, has none.
    """
    import onnx

    from harness.inside.nodes.matching import module_of

    if not modules:
        return tuple(times)
    graph = onnx.load(str(path), load_external_data=False).graph
    paths = {node.name: module_of(node, modules) or "" for node in graph.node if node.name}
    return tuple(replace(each, module=paths.get(each.node, "")) for each in times)
