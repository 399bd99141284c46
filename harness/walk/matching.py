"""Pairs values of an exported graph with what torch's modules answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto

from harness.walk.found import ModuleCall
from harness.walk.scopes import module_of

Array = NDArray[Any]
How = Literal["the exporter's own names", "shape and values", "values, as it was folded into the module before"]


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
    shapes. A value that is another module's answer, one that has no nodes of its own, stands for that module: a batch
    normalization is folded into the convolution before it. Else a value of the same shape and dtype that is close to
    the module's answer, if there is one.
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
        found = {id(call) for _, call, _ in fitting}
        left += [call for call in own if id(call) not in found]
    pairs = [_folded(pair, values[pair.value], left) for pair in pairs]
    taken = {pair.value for pair in pairs}
    paired = {id(pair.call) for pair in pairs}
    for call in (call for call in left if id(call) not in paired):
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


def folded_away(values: Mapping[str, Array], calls: Sequence[ModuleCall], pairs: Collection[Match]) -> bool:
    """True where some call's answer stands nowhere in the graph: its weights went into those of another module."""
    paired = {id(pair.call) for pair in pairs}
    left = [output for call in calls if id(call) not in paired for output in call.outputs]
    return not all(any(_alike(value, output) for value in values.values()) for output in left)


def _folded(pair: Match, value: Array, left: Sequence[ModuleCall]) -> Match:
    """``pair``, or the module that was folded into the same node, where the value is that module's answer."""
    if _alike(value, pair.expected):
        return pair
    answers = ((call, output) for call in left for output in call.outputs)
    folded = next(((call, output) for call, output in answers if _alike(value, output)), None)
    return pair if folded is None else Match(pair.value, *folded, "values, as it was folded into the module before")


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
    wide, other = value.astype(np.float64), output.astype(np.float64)
    largest = np.abs(other, where=np.isfinite(other), out=np.zeros_like(other)).max()
    with np.errstate(all="ignore"):
        return bool(np.isclose(wide, other, rtol=1e-3, atol=1e-5 * largest, equal_nan=True).all())
