"""Axes that stay open in an artifact, and the further shapes that a case names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.errors import Problem
from harness.spec.case import TensorSpec
from harness.spec.compact import shown
from harness.spec.nearest import listed_names, suggestion
from harness.spec.node import Node
from harness.spec.parts import ONLY
from harness.spec.schema import Case
from harness.spec.tensors import size_problems

Ranks = Mapping[str, TensorSpec]


def by_label(shapes: Mapping[str, list[int]], inputs: Ranks) -> dict[str, tuple[int, ...]]:
    """Shapes by label; a bare one is the only input's."""
    return {label or next(iter(inputs)): tuple(shape) for label, shape in shapes.items()}


def problems(node: Node, case: Case, inputs: Ranks) -> Iterator[Problem]:
    """What is wrong with ``dynamic``, ``also`` and ``bench`` of the case at ``node``, given its inputs."""
    for label, axes in case.dynamic.items():
        if label not in inputs:
            right = suggestion(label, inputs, f"its inputs are {listed_names(inputs)}")
            yield Problem(node.place(["dynamic", label], of_key=True), f"dynamic: no input {label}", right)
            continue
        for axis in axes:
            if axis >= len(inputs[label].shape):
                wrong = f"dynamic: {label} has no axis {axis}"
                right = f"its axes are 0 to {len(inputs[label].shape) - 1}" if inputs[label].shape else "it has none"
                yield Problem(node.place(["dynamic", label, axis], of_key=True), wrong, right)
    if case.also and not case.dynamic:
        yield Problem(node.place(["also"], of_key=True), "also: no axis is open", "add `dynamic: {x: {0: N}}`")
    for key, listed in (("also", case.also), ("bench", case.bench)):
        for at, shapes in enumerate(listed):
            yield from _shape_problems(node, inputs, (key, at), shapes)
    if case.dynamic:
        for at, shapes in enumerate(case.also):
            yield from _axis_problems(node, case, inputs, at, shapes)


def _shape_problems(
    node: Node, inputs: Ranks, path: tuple[str, int], shapes: Mapping[str, list[int]]
) -> Iterator[Problem]:
    for label, shape in shapes.items():
        where = node.place([*path, label])
        if label == ONLY and len(inputs) != 1:
            yield Problem(where, f"{path[0]}: which of {len(inputs)} inputs?", "write {label: [sizes]}")
        elif label != ONLY and label not in inputs:
            right = suggestion(label, inputs, f"its inputs are {listed_names(inputs)}")
            yield Problem(node.place([*path, label], of_key=True), f"{path[0]}: no input {label}", right)
        else:
            yield from size_problems(where, shape)
            name = label or next(iter(inputs))
            if inputs[name].values is not None and tuple(shape) != inputs[name].shape:
                wrong = f"{path[0]}: {name} is given by values, which have one shape"
                yield Problem(where, wrong, "give it by `shape` and `fill`")


def _axis_problems(
    node: Node, case: Case, inputs: Ranks, at: int, shapes: Mapping[str, list[int]]
) -> Iterator[Problem]:
    """Sizes that a graph with these open axes cannot take: a closed axis changed, one name with two sizes."""
    sizes: dict[str, int] = {}
    given = by_label(shapes, inputs)
    for label, spec in inputs.items():
        shape = given.get(label, spec.shape)
        where = node.place(["also", at, label])
        if len(shape) != len(spec.shape):
            yield Problem(
                where, f"also: {shown(shape)} has not the axes of {label}", f"{len(spec.shape)} sizes, as in inputs"
            )
            continue
        for axis, (size, first) in enumerate(zip(shape, spec.shape, strict=True)):
            name = case.dynamic.get(label, {}).get(axis)
            if name is None and size != first:
                wrong = f"also: axis {axis} of {label} is not open, and {size} is not {first}"
                yield Problem(where, wrong, f"open it under `dynamic:`, or keep {shown(first)}")
            elif name is not None and sizes.setdefault(name, size) != size:
                yield Problem(where, f"also: axis {name} is both {sizes[name]} and {size}", "one name, one size")
