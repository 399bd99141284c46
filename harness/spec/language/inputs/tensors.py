"""A tensor as a spec describes it: its problems, the :class:`TensorSpec` made from it, and its memory layout.

Everything here works without torch. :func:`with_layout` gives a NumPy array the strides that
:func:`harness.model.tensors.to_torch` gives the tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import Location, Problem, UsageError
from harness.spec.language.case import Fill, Layout, TensorSpec, seed_from_name
from harness.spec.language.data import SpecFolder, tensor_from_file
from harness.spec.language.inputs.fills import array
from harness.spec.language.schema import Input, Tensor
from harness.spec.quoting import format_value
from harness.spec.yaml.tree import Node

Array = NDArray[Any]

MAX_ELEMENTS = 2**28
MAX_FLOAT: Mapping[str, float] = {
    "float16": 65504.0,
    "bfloat16": 3.3895313892515355e38,
    "float32": 3.4028234663852886e38,
    "float64": math.inf,
}
INTEGER_RANGES: Mapping[str, tuple[int, int]] = {
    "uint8": (0, 2**8 - 1),
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
}
CHANNELS_LAST_RANKS = (4, 5)


def tensor_spec(label: str, tensor: Tensor, dtype: str, seed_name: str, folder: SpecFolder) -> TensorSpec:
    """The tensor as data; ``dtype`` is the case's. Without a seed of its own, its seed comes from ``seed_name``.

    ``folder`` has its file. :func:`problems` has found none.
    """
    if tensor.file is not None:
        layout = tensor.layout if isinstance(tensor, Input) else "contiguous"
        return tensor_from_file(label, folder.file(tensor.file), tensor.key, tensor.dtype, dtype, layout)
    seed = seed_from_name(f"{seed_name}/{label}") if tensor.seed is None else tensor.seed
    dtype = tensor.dtype or dtype
    layout = tensor.layout if isinstance(tensor, Input) else "contiguous"
    if tensor.values is not None:
        return TensorSpec(label, dtype, shape_of(tensor.values), as_tuples(tensor.values), None, layout, seed)
    shape, takes_shape = tuple(tensor.shape or ()), tensor.shape is None
    return TensorSpec(label, dtype, shape, None, tensor.fill or Fill("normal"), layout, seed, takes_shape)


def problems(
    node: Node, tensor: Tensor, dtype: str, folder: SpecFolder, *, takes_shape: bool = False
) -> Iterator[Problem]:
    """What is impossible about the tensor at ``node``; ``dtype`` is the case's, and ``folder`` has its file.

    A weight ``takes_shape`` from its parameter, so it may be a ``fill`` alone.
    """
    if tensor.file is not None:
        yield from _file_problems(node, tensor, dtype, folder)
        return
    if tensor.key is not None:
        yield Problem(node.location(["key"], of_key=True), "key: the tensor has no file", "write {file: ..., key: ...}")
    dtype = tensor.dtype or dtype
    values = node.child("values")
    if values is not None:
        ragged = list(_ragged_problems(values))
        yield from ragged
        if not ragged:
            yield from _surplus_problems(node, tensor, values)
            for leaf in _leaves(values):
                yield from _value_problems(leaf.where, leaf.value, dtype)
    elif tensor.shape is None and not takes_shape:
        remedy = "give `values`, or a `shape` with a `fill`"
        yield Problem(node.where, "a tensor without values and without a shape", remedy)
    else:
        yield from size_problems(node.location(["shape"]), tensor.shape or [])
        yield from _fill_problems(node.location(["fill"]), tensor.fill, prod(tensor.shape or []), dtype)
    rank = len(tensor.shape if tensor.shape is not None else shape_of(tensor.values))
    if isinstance(tensor, Input) and tensor.layout == "channels_last" and rank not in CHANNELS_LAST_RANKS:
        yield _channels_last_problem(node, rank)


def _file_problems(node: Node, tensor: Tensor, dtype: str, folder: SpecFolder) -> Iterator[Problem]:
    """A file that cannot be used, or another way to give the values beside it."""
    for key in ("values", "shape", "fill", "seed"):
        if getattr(tensor, key) is not None:
            yield Problem(node.location([key], of_key=True), f"{key}: the tensor also has a file", "keep one of them")
    assert tensor.file is not None
    layout = tensor.layout if isinstance(tensor, Input) else "contiguous"
    try:
        spec = tensor_from_file("the tensor", folder.file(tensor.file), tensor.key, tensor.dtype, dtype, layout)
    except UsageError as error:
        yield problem_from(error, node.location(["key" if "no array" in str(error) else "file"]))
        return
    yield from size_problems(node.location(["file"]), list(spec.shape))
    if layout == "channels_last" and len(spec.shape) not in CHANNELS_LAST_RANKS:
        yield _channels_last_problem(node, len(spec.shape))


def _channels_last_problem(node: Node, rank: int) -> Problem:
    message = f"channels_last with {rank} {'axis' if rank == 1 else 'axes'}"
    return Problem(node.location(["layout"]), message, "it is defined for 4 and 5 axes")


def problem_from(error: UsageError, where: Location) -> Problem:
    """The problem that ``error`` describes, at ``where``."""
    message, _, remedy = str(error).partition("; ")
    return Problem(where, message, remedy)


def size_problems(where: Location, shape: list[int]) -> Iterator[Problem]:
    """A shape with more than 2^28 elements."""
    if prod(shape) > MAX_ELEMENTS:
        message = f"{format_value(shape)} has {prod(shape)} elements"
        yield Problem(where, message, f"at most {MAX_ELEMENTS} (2^28) per tensor")


def shape_of(values: Any) -> tuple[int, ...]:
    """The shape of nested lists that are not ragged."""
    shape = []
    while isinstance(values, list):
        shape.append(len(values))
        if not values:
            break
        values = values[0]
    return tuple(shape)


def as_tuples(value: Any) -> Any:
    """``value`` with every list in it as a tuple."""
    if isinstance(value, Mapping):
        return {key: as_tuples(item) for key, item in value.items()}
    return tuple(as_tuples(item) for item in value) if isinstance(value, list) else value


def arrays_of(specs: Iterable[TensorSpec]) -> dict[str, Array]:
    """The values of the tensors by label, in their layouts. Raises :class:`UsageError` for a file that is gone."""
    return {spec.label: with_layout(array(spec), spec.layout) for spec in specs}


def with_layout(values: Array, layout: Layout) -> Array:
    """A copy of ``values`` in row-major order, with the second axis innermost, or in every second element of a row.

    ``channels_last`` is defined for four and five axes; for any other number the layout is contiguous. The gaps between
    the elements of ``strided`` are NaN, or have every bit set, so that a runtime that ignores strides is noticed.
    """
    if layout == "channels_last" and values.ndim in CHANNELS_LAST_RANKS:
        return np.moveaxis(np.array(np.moveaxis(values, 1, -1), order="C"), -1, 1)
    if layout == "strided" and values.ndim:
        wide = np.empty((*values.shape[:-1], 2 * values.shape[-1]), values.dtype)
        wide.view(np.uint8).fill(0xFF)  # a NaN in each floating dtype
        wide[..., ::2] = values
        return wide[..., ::2]
    return np.array(values, order="C")


def _ragged_problems(values: Node) -> Iterator[Problem]:
    """Lists of unequal length, or numbers beside lists, level by level; then values that are not numbers."""
    level = [values]
    while level:
        first = level[0]
        kinds_differ = [node for node in level if isinstance(node.value, tuple) != isinstance(first.value, tuple)]
        lengths_differ = [node for node in level if len(node.items) != len(first.items)]
        if different := kinds_differ or lengths_differ:
            node = different[0]
            size = f"{len(node.items)} here" if isinstance(node.value, tuple) else "no list here"
            first_size = f"a list of {len(first.items)}" if isinstance(first.value, tuple) else "a number"
            yield Problem(node.where, f"values are ragged: {size}", f"write {first_size}, as in the first")
            return
        if not isinstance(first.value, tuple):
            yield from (_not_a_number(node) for node in level if not isinstance(node.value, int | float))
            return
        level = [child for node in level for child in node.items]


def _not_a_number(node: Node) -> Problem:
    spelling = {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}.get(str(node.value).lower())
    message = f"values: {format_value(node.plain())} is not a number"
    return Problem(node.where, message, f"write {spelling or 'one, such as 0.5'}")


def _leaves(values: Node) -> Iterator[Node]:
    if isinstance(values.value, tuple):
        for item in values.items:
            yield from _leaves(item)
    else:
        yield values


def _surplus_problems(node: Node, tensor: Tensor, values: Node) -> Iterator[Problem]:
    """A ``shape`` that contradicts the values, or a ``fill`` beside them."""
    shape = shape_of(values.plain())
    if tensor.shape is not None and tuple(tensor.shape) != shape:
        message = f"shape: {format_value(tensor.shape)} is not the shape of the values"
        yield Problem(node.location(["shape"]), message, f"remove `shape`; the values have shape {format_value(shape)}")
    if tensor.fill is not None:
        yield Problem(node.location(["fill"]), "fill: the tensor also has values", "keep one of them")


def _value_problems(where: Location, value: Any, dtype: str) -> Iterator[Problem]:
    """A number that the dtype cannot hold without changing it."""
    if dtype == "bool":
        if not isinstance(value, bool):
            yield Problem(where, f"{format_value(value)} does not fit bool", "write true or false")
    elif isinstance(value, bool):
        yield Problem(where, f"{format_value(value)} does not fit {dtype}", "write a number, or `dtype: bool`")
    elif dtype in INTEGER_RANGES:
        low, high = INTEGER_RANGES[dtype]
        if not isinstance(value, int) or not low <= value <= high:
            yield Problem(where, f"{format_value(value)} does not fit {dtype}", f"a whole number from {low} to {high}")
    elif math.isfinite(value) and abs(value) > MAX_FLOAT[dtype]:
        yield Problem(where, f"{format_value(value)} is beyond {dtype}", f"at most {MAX_FLOAT[dtype]:g}, or .inf")


def _fill_problems(where: Location, fill: Fill | None, count: int, dtype: str) -> Iterator[Problem]:
    match fill:
        case Fill("uniform") if dtype in INTEGER_RANGES or dtype == "bool":
            yield Problem(where, f"fill: uniform of {dtype}", "write {integers: [low, high]}, or {choice: [...]}")
        case Fill("integers" | "arange") if dtype == "bool":
            yield Problem(where, f"fill: {fill.kind} of bool", "write {choice: [true, false]}")
        case Fill("arange") if dtype != "bool" and count > 1:
            yield from _value_problems(where, count - 1, dtype)
        case Fill("uniform" | "integers" | "full" | "choice", parameters):
            yield from (problem for each in parameters for problem in _value_problems(where, each, dtype))
