"""Memory layouts without torch: an array as the tensor lies that :func:`harness.model.tensors.to_torch` makes of it.

A tensor as a spec describes it -> a :class:`TensorSpec`, once nothing about it is impossible.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import Location, Problem
from harness.spec.language.case import Fill, Layout, TensorSpec, seed_of
from harness.spec.language.schema import Input, Tensor
from harness.spec.quoting import shown
from harness.spec.yaml.tree import Node

Array = NDArray[Any]

CHANNELS_LAST_AXES = (4, 5)


def laid_out(values: Array, layout: Layout) -> Array:
    """``values`` in memory of their own: row-major, with the second axis innermost, or every second element of a row.

    ``channels_last`` is defined for four and five axes; for any other number the layout is contiguous. The elements
    between those of ``strided`` are NaN, or ones in every bit, so that a runtime which ignores strides is found out.
    """
    if layout == "channels_last" and values.ndim in CHANNELS_LAST_AXES:
        return np.moveaxis(np.array(np.moveaxis(values, 1, -1), order="C"), -1, 1)
    if layout == "strided" and values.ndim:
        wide = np.empty((*values.shape[:-1], 2 * values.shape[-1]), values.dtype)
        wide.view(np.uint8).fill(0xFF)  # in each floating dtype a NaN
        wide[..., ::2] = values
        return wide[..., ::2]
    return np.array(values, order="C")


MOST_ELEMENTS = 2**28
LARGEST_FLOAT: Mapping[str, float] = {
    "float16": 65504.0,
    "bfloat16": 3.3895313892515355e38,
    "float32": 3.4028234663852886e38,
    "float64": math.inf,
}
INTEGERS: Mapping[str, tuple[int, int]] = {
    "uint8": (0, 2**8 - 1),
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
}


def tensor(label: str, spec: Tensor, dtype: str, drawn_from: str) -> TensorSpec:
    """The tensor; ``dtype`` is the case's, and its seed is drawn from the text ``drawn_from`` where it has none."""
    seed = seed_of(f"{drawn_from}/{label}") if spec.seed is None else spec.seed
    layout = spec.layout if isinstance(spec, Input) else "contiguous"
    if spec.values is not None:
        return TensorSpec(label, spec.dtype or dtype, shape_of(spec.values), frozen(spec.values), None, layout, seed)
    fill = spec.fill or Fill("normal")
    shape, takes_shape = tuple(spec.shape or ()), spec.shape is None
    return TensorSpec(label, spec.dtype or dtype, shape, None, fill, layout, seed, takes_shape)


def problems(node: Node, spec: Tensor, dtype: str, *, takes_shape: bool = False) -> Iterator[Problem]:
    """What is impossible about the tensor that stands at ``node``; ``dtype`` is the case's.

    A weight, which ``takes_shape`` from its parameter, may be a ``fill`` alone.
    """
    dtype = spec.dtype or dtype
    values = node.child("values")
    if values is not None:
        ragged = list(_ragged(values))
        yield from ragged
        if not ragged:
            yield from _disagreements(node, spec, values)
            yield from (problem for leaf in _leaves(values) for problem in _unfit(leaf.where, leaf.value, dtype))
    elif spec.shape is None and not takes_shape:
        right = "give `values`, or a `shape` with a `fill`"
        yield Problem(node.where, "a tensor without values and without a shape", right)
    else:
        yield from size_problems(node.place(["shape"]), spec.shape or [])
        yield from _fill_problems(node.place(["fill"]), spec.fill, prod(spec.shape or []), dtype)
    rank = len(spec.shape if spec.shape is not None else shape_of(spec.values))
    if isinstance(spec, Input) and spec.layout == "channels_last" and rank not in {4, 5}:
        yield Problem(node.place(["layout"]), f"channels_last of {rank} axes", "it is defined for 4 and 5 axes")


def size_problems(where: Location, shape: list[int]) -> Iterator[Problem]:
    """A shape that no memory would hold."""
    if prod(shape) > MOST_ELEMENTS:
        wrong = f"{shown(shape)} has {prod(shape)} elements"
        yield Problem(where, wrong, f"at most {MOST_ELEMENTS} (2^28) a tensor")


def shape_of(values: Any) -> tuple[int, ...]:
    """The shape of nested lists that are not ragged."""
    shape = []
    while isinstance(values, list):
        shape.append(len(values))
        if not values:
            break
        values = values[0]
    return tuple(shape)


def frozen(value: Any) -> Any:
    """Lists as tuples, all the way down."""
    if isinstance(value, Mapping):
        return {key: frozen(item) for key, item in value.items()}
    return tuple(frozen(item) for item in value) if isinstance(value, list) else value


def _ragged(values: Node) -> Iterator[Problem]:
    """Lists of unequal length, or numbers beside lists, each level by itself; then what is no number."""
    level = [values]
    while level:
        first = level[0]
        kinds_differ = [node for node in level if isinstance(node.value, tuple) != isinstance(first.value, tuple)]
        lengths_differ = [node for node in level if len(node.items) != len(first.items)]
        if odd := kinds_differ or lengths_differ:
            is_list = isinstance(odd[0].value, tuple)
            wrong = (
                f"values are ragged: {len(odd[0].items)} entries here" if is_list else "values are ragged: no list here"
            )
            yield Problem(
                odd[0].where, wrong, f"{len(first.items)}, as in the first" if first.items else "as in the first"
            )
            return
        if not isinstance(first.value, tuple):
            yield from (_not_a_number(node) for node in level if not isinstance(node.value, int | float))
            return
        level = [child for node in level for child in node.items]


def _not_a_number(node: Node) -> Problem:
    meant = {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}.get(str(node.value).lower())
    return Problem(node.where, f"values: {shown(node.plain())} is not a number", f"write {meant or 'one, such as 0.5'}")


def _leaves(values: Node) -> Iterator[Node]:
    if isinstance(values.value, tuple):
        for item in values.items:
            yield from _leaves(item)
    else:
        yield values


def _disagreements(node: Node, spec: Tensor, values: Node) -> Iterator[Problem]:
    shape = shape_of(values.plain())
    if spec.shape is not None and tuple(spec.shape) != shape:
        right = f"the values have shape {shown(shape)}; remove `shape`"
        yield Problem(node.place(["shape"]), f"shape: {shown(spec.shape)} is not the shape of the values", right)
    if spec.fill is not None:
        yield Problem(node.place(["fill"]), "fill: the values leave nothing to fill", "keep one of them")


def _unfit(where: Location, value: Any, dtype: str) -> Iterator[Problem]:
    """A number that the dtype cannot hold without becoming another."""
    if dtype == "bool":
        if not isinstance(value, bool):
            yield Problem(where, f"{shown(value)} does not fit bool", "write true or false")
    elif isinstance(value, bool):
        yield Problem(where, f"{shown(value)} does not fit {dtype}", "write a number, or `dtype: bool`")
    elif dtype in INTEGERS:
        low, high = INTEGERS[dtype]
        if not isinstance(value, int) or not low <= value <= high:
            yield Problem(where, f"{shown(value)} does not fit {dtype}", f"a whole number from {low} to {high}")
    elif math.isfinite(value) and abs(value) > LARGEST_FLOAT[dtype]:
        yield Problem(where, f"{shown(value)} is beyond {dtype}", f"at most {LARGEST_FLOAT[dtype]:g}, or .inf")


def _fill_problems(where: Location, fill: Fill | None, count: int, dtype: str) -> Iterator[Problem]:
    match fill:
        case Fill("uniform") if dtype in INTEGERS or dtype == "bool":
            yield Problem(where, f"fill: uniform of {dtype}", "write {integers: [low, high]}, or {choice: [...]}")
        case Fill("integers" | "arange") if dtype == "bool":
            yield Problem(where, f"fill: {fill.kind} of bool", "write {choice: [true, false]}")
        case Fill("arange") if dtype != "bool" and count > 1:
            yield from _unfit(where, count - 1, dtype)
        case Fill("uniform" | "integers" | "full" | "choice", parameters):
            yield from (problem for each in parameters for problem in _unfit(where, each, dtype))
