"""MaxPool1d, MaxPool2d, MaxPool3d: the largest element of each window, and where it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.layers import Answer, Array, Call, Layer, Mutant
from harness.layers._mutants import identity, is_real, nothing_to_see, with_argument, with_output
from harness.layers._pooling import argument_mutants, averages, each_its_own, over_the_same_windows
from harness.layers._windows import Geometry, Size
from harness.spec.language.tolerances import Exact, Tolerance


class MaxPool:
    """Max pooling over ``dims`` axes (torch.nn.MaxPool2d and its like)."""

    def __init__(self, dims: int) -> None:
        self.name = f"MaxPool{dims}d"
        self.dims = dims

    def float64_reference(self, call: Call) -> Answer:
        """Each window's maximum and, with ``return_indices``, its flat index in its plane.

        As PyTorch does: NaN is larger than everything, the first of equal maxima counts but the
        last of several NaN, and padding never wins, not even against -inf. A window wholly in
        padding has no maximum and is ``undefined``.
        """
        x = call.inputs[0]
        windows = Geometry.of(call.args, self.dims).windows(x.shape[-self.dims :])
        seen = windows.gather(x, self.dims)
        winner = _winner(seen, windows.inside)
        values = np.take_along_axis(seen, winner, axis=-1)[..., 0]
        index = np.take_along_axis(np.broadcast_to(windows.places, seen.shape), winner, axis=-1)[..., 0]
        outputs = (values, index) if call.args.get("return_indices") else (values,)
        hidden = ~windows.inside.any(axis=-1)
        undefined = np.broadcast_to(hidden, values.shape) if hidden.any() else None
        return Answer(outputs, magnitudes=(None,) * len(outputs), undefined=(undefined,) * len(outputs))

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:  # noqa: ARG002
        """Exact: a maximum is one of the inputs, and nothing is rounded. Measured: 0 ULP everywhere."""
        return Tolerance(Exact())

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """Another window, another summary of the window, indices of another place."""
        indexed = bool(call.args.get("return_indices"))
        yield from argument_mutants(call, self.dims, self._same)
        yield with_argument(call, "return_indices", not indexed)
        yield from _index_mutants(call, self.dims) if indexed else self._other_layers(call)

    def _same(self, call: Call, changed: Mapping[str, Any]) -> str | None:
        plane = call.inputs[0].shape[-self.dims :]
        right, wrong = (Geometry.of(args, self.dims).windows(plane) for args in (call.args, changed))
        return "every window sees the same elements" if right.same_as(wrong) else None

    def _other_layers(self, call: Call) -> Iterator[Mutant]:
        x = call.inputs[0]
        geometry = Geometry.of(call.args, self.dims)
        plane = x.shape[-self.dims :]
        if geometry.output_size(plane) == plane:
            yield identity(why_equal=nothing_to_see(call) or each_its_own(geometry.windows(plane)))
        if set(geometry.dilation) == {1} and is_real(x) and averages(geometry.kernel, plane):
            alone = "every window is one element" if prod(geometry.kernel) == 1 else None
            why = nothing_to_see(call) or alone
            yield over_the_same_windows(self.name.replace("Max", "Avg"), geometry, why_equal=why)


def _winner(seen: Array, inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The position of the maximum within each window; shape (..., 1)."""
    lowest = -np.inf if np.issubdtype(seen.dtype, np.floating) else np.iinfo(seen.dtype).min
    held = np.where(inside, seen, np.asarray(lowest, dtype=seen.dtype))
    nan = np.isnan(held)
    largest = np.where(nan, lowest, held).max(axis=-1, keepdims=True)
    first = np.argmax((held == largest) & inside, axis=-1, keepdims=True)
    last_nan = seen.shape[-1] - 1 - np.argmax(nan[..., ::-1], axis=-1, keepdims=True)
    return np.asarray(np.where(nan.any(axis=-1, keepdims=True), last_nan, first), dtype=np.int64)


def _index_mutants(call: Call, dims: int) -> Iterator[Mutant]:
    """Right maxima with indices that point elsewhere."""
    x = call.inputs[0]
    plane: Size = x.shape[-dims:]
    planes = prod(x.shape[:-dims])

    def off_by_a_plane(index: Array) -> Array:
        rows = np.arange(prod(index.shape[:-dims])).reshape(*index.shape[:-dims], *(1,) * dims)
        return np.asarray(index + rows * prod(plane), dtype=index.dtype)

    def transposed(index: Array) -> Array:
        within = np.unravel_index(index % prod(plane), plane)
        return np.asarray(np.ravel_multi_index(within[::-1], plane[::-1]), dtype=index.dtype)

    empty = nothing_to_see(call)
    one_plane = "there is one plane only" if planes == 1 else None
    one_line = "the plane is one line" if sum(length > 1 for length in plane) <= 1 else None
    yield with_output(1, "indices off by one", lambda index: index + 1, why_equal=empty)
    yield with_output(1, "indices off by a plane", off_by_a_plane, why_equal=empty or one_plane)
    if dims > 1:
        yield with_output(1, "indices transposed", transposed, why_equal=empty or one_line)


PROVIDES: tuple[Layer, ...] = (MaxPool(1), MaxPool(2), MaxPool(3))
