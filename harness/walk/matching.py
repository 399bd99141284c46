"""Pairs values of an exported graph with what torch's modules answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto

from harness.walk.scopes import module_of
from harness.walk.torch_values import ModuleCall

Array = NDArray[Any]
How = Literal["the exporter's own names", "shape and values"]


@dataclass(frozen=True, slots=True)
class Match:
    """A value of the graph that stands for an output of a module's call; ``how`` says what the pairing rests on."""

    value: str
    call: ModuleCall
    expected: Array
    how: How


def matched(graph: GraphProto, values: Mapping[str, Array], calls: Sequence[ModuleCall]) -> list[Match]:
    """The pairs that can be told, each call's outputs at most once.

    By scope: the values that leave a module's nodes, where they are as many as the module's outputs and have their
    shapes. Else a value of the same shape and dtype that is close to the module's answer, if there is one.
    """
    by_path: dict[str, list[ModuleCall]] = defaultdict(list)
    for call in calls:
        by_path[call.path].append(call)
    pairs: list[Match] = []
    left: list[ModuleCall] = []
    for path, own in by_path.items():
        leaving = _leaving(graph, path, by_path.keys())
        wanted = [(call, output) for call in own for output in call.outputs]
        known = [name for name in leaving if name in values]
        fitting = _in_order(known, wanted, values)
        pairs += [Match(name, call, output, "the exporter's own names") for name, call, output in fitting]
        paired = {id(call) for _, call, _ in fitting}
        left += [call for call in own if id(call) not in paired]
    taken = {pair.value for pair in pairs}
    for call in left:
        for output in call.outputs:
            alike = next((name for name, value in values.items() if name not in taken and _alike(value, output)), None)
            if alike is not None:
                taken.add(alike)
                pairs.append(Match(alike, call, output, "shape and values"))
    return pairs


def owner(node: NodeProto, calls: Sequence[ModuleCall]) -> ModuleCall | None:
    """The module call that ``node`` was written for, the first of that module; None where it is not told."""
    path = module_of(node, {call.path for call in calls})
    return next((call for call in calls if call.path == path), None)


def _leaving(graph: GraphProto, path: str, paths: Any) -> list[str]:
    """The values that nodes of the module at ``path`` compute and others read, in the graph's order."""
    own = [node for node in graph.node if module_of(node, paths) == path]
    inside = {id(node) for node in own}
    read = {name for node in graph.node if id(node) not in inside for name in node.input}
    read |= {output.name for output in graph.output}
    return [name for node in own for name in node.output if name in read]


def _in_order(
    names: Sequence[str], wanted: Sequence[tuple[ModuleCall, Array]], values: Mapping[str, Array]
) -> list[tuple[str, ModuleCall, Array]]:
    """Each wanted output with the first name left that has its shape."""
    left = list(names)
    found = []
    for call, output in wanted:
        fits = next((name for name in left if values[name].shape == output.shape and _kind(values[name], output)), None)
        if fits is not None:
            left.remove(fits)
            found.append((fits, call, output))
    return found


def _kind(one: Array, other: Array) -> bool:
    return one.dtype == other.dtype


def _alike(value: Array, output: Array) -> bool:
    if value.shape != output.shape or value.dtype != output.dtype or not value.size:
        return False
    with np.errstate(all="ignore"):
        near = np.isclose(value.astype(np.float64), output.astype(np.float64), rtol=1e-3, atol=1e-6, equal_nan=True)
    return bool(near.all())
