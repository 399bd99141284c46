"""MaxPool1d, MaxPool2d, MaxPool3d: the maximum of each window, and its index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.layers import (
    Answer,
    Array,
    Call,
    Layer,
    Mutant,
    identity,
    is_floating_array,
    why_empty,
    with_argument,
    with_output,
)
from harness.layers._pooling import argument_mutants, average_pool_accepts, other_pool, why_identity
from harness.layers._windows import Geometry, Size
from harness.spec.language.tolerances import Exact, Tolerance


class MaxPool:
    """Max pooling over ``dims`` axes (torch.nn.MaxPool1d, MaxPool2d, MaxPool3d)."""

    def __init__(self, dims: int) -> None:
        self.name = f"MaxPool{dims}d"
        self.dims = dims

    def float64_reference(self, call: Call) -> Answer:
        """Each window's maximum and, with ``return_indices``, its flat index in its plane.

        As in PyTorch, NaN is larger than every number, the index is that of the first of equal maxima but of the last
        of several NaN, and padding never wins, not even against -inf. A window wholly in padding has no maximum and
        is ``undefined``.
        """
        x = call.inputs[0]
        windows = Geometry.of(call.args, self.dims).windows(x.shape[-self.dims :])
        elements = windows.gather(x, self.dims)
        position = _maximum_position(elements, windows.in_plane)
        values = np.take_along_axis(elements, position, axis=-1)[..., 0]
        indices = np.take_along_axis(np.broadcast_to(windows.indices, elements.shape), position, axis=-1)[..., 0]
        outputs = (values, indices) if call.args.get("return_indices") else (values,)
        in_padding = ~windows.in_plane.any(axis=-1)
        undefined = np.broadcast_to(in_padding, values.shape) if in_padding.any() else None
        return Answer(outputs, magnitudes=(None,) * len(outputs), undefined=(undefined,) * len(outputs))

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:  # noqa: ARG002
        """Exact: a maximum is one of the inputs, and nothing is rounded. Measured: 0 ULP everywhere."""
        return Tolerance(Exact())

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """Other windows, the average of each window, the identity, indices of other elements."""
        indexed = bool(call.args.get("return_indices"))
        yield from argument_mutants(call, self.dims, self._why_same)
        yield with_argument(call, "return_indices", not indexed)
        yield from _index_mutants(call, self.dims) if indexed else self._other_layers(call)

    def _why_same(self, call: Call, changed: Mapping[str, Any]) -> str | None:
        plane = call.inputs[0].shape[-self.dims :]
        before, after = (Geometry.of(args, self.dims).windows(plane) for args in (call.args, changed))
        return "every window sees the same elements" if before.same_as(after) else None

    def _other_layers(self, call: Call) -> Iterator[Mutant]:
        x = call.inputs[0]
        geometry = Geometry.of(call.args, self.dims)
        plane = x.shape[-self.dims :]
        if geometry.output_size(plane) == plane:
            yield identity(why_equivalent=why_empty(call) or why_identity(geometry.windows(plane)))
        if set(geometry.dilation) == {1} and is_floating_array(x) and average_pool_accepts(geometry.kernel, plane):
            single = "every window is one element" if prod(geometry.kernel) == 1 else None
            why = why_empty(call) or single
            yield other_pool(self.name.replace("Max", "Avg"), geometry, why_equivalent=why)


def _maximum_position(elements: Array, in_plane: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The position of the maximum within each window; shape (..., 1)."""
    lowest = -np.inf if np.issubdtype(elements.dtype, np.floating) else np.iinfo(elements.dtype).min
    candidates = np.where(in_plane, elements, np.asarray(lowest, dtype=elements.dtype))
    nan = np.isnan(candidates)
    largest = np.where(nan, lowest, candidates).max(axis=-1, keepdims=True)
    first = np.argmax((candidates == largest) & in_plane, axis=-1, keepdims=True)
    last_nan = elements.shape[-1] - 1 - np.argmax(nan[..., ::-1], axis=-1, keepdims=True)
    return np.asarray(np.where(nan.any(axis=-1, keepdims=True), last_nan, first), dtype=np.int64)


def _index_mutants(call: Call, dims: int) -> Iterator[Mutant]:
    """The correct maxima with wrong indices."""
    x = call.inputs[0]
    plane: Size = x.shape[-dims:]
    planes = prod(x.shape[:-dims])

    def off_by_a_plane(indices: Array) -> Array:
        rows = np.arange(prod(indices.shape[:-dims])).reshape(*indices.shape[:-dims], *(1,) * dims)
        return np.asarray(indices + rows * prod(plane), dtype=indices.dtype)

    def transposed(indices: Array) -> Array:
        coordinates = np.unravel_index(indices % prod(plane), plane)
        return np.asarray(np.ravel_multi_index(coordinates[::-1], plane[::-1]), dtype=indices.dtype)

    empty = why_empty(call)
    one_plane = "there is one plane only" if planes == 1 else None
    one_line = "the plane is one line" if sum(length > 1 for length in plane) <= 1 else None
    yield with_output(1, "indices off by one", lambda indices: indices + 1, why_equivalent=empty)
    yield with_output(1, "indices off by a plane", off_by_a_plane, why_equivalent=empty or one_plane)
    if dims > 1:
        yield with_output(1, "indices transposed", transposed, why_equivalent=empty or one_line)


PROVIDES: tuple[Layer, ...] = (MaxPool(1), MaxPool(2), MaxPool(3))
