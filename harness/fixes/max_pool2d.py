"""MaxPool2d: ONNX Runtime's kernels lose NaN and -inf, and ONNX infers wrong output sizes for some windows.

Without indices, the maximum is taken along the rows and then along the columns over strided
views, with ``Max``, which keeps NaN and -inf. On one CPU thread this costs 2 to 9 times the stock
MaxPool (k2 s2 on 512x512: 9; k3 s1 on 56x56: 3); a second pool over a mask would cost 2 to 19.

With indices, a second pool finds the last NaN of each window, whose index torch returns. For the other windows ONNX
Runtime's indices are correct; they are converted from ONNX's numbering over the whole tensor to torch's numbering
within the plane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.fixes._builder import (
    INTEGER_TYPES,
    Builder,
    Value,
    cast,
    from_compute_type,
    int64_vector,
    scalar,
    to_compute_type,
)
from harness.fixes._lowering import ArgumentKind, Lowering
from harness.fixes._windows import axes, pad, pads, views_along

_EXACT_IN_FLOAT32 = 2**24


def lower(
    builder: Builder,
    x: Value,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> Value:
    """``aten::max_pool2d``."""
    window = axes(kernel_size, stride, padding, dilation, ceil_mode)
    y, compute = to_compute_type(builder, x)
    begins, ends = [axis.padding for axis in window], [axis.padding + axis.overhang for axis in window]
    y = pad(builder, y, len(builder.sizes(x)), begins, ends, scalar(builder, _lowest(compute), compute))
    for axis, position in zip(reversed(window), (-1, -2), strict=True):
        y = builder.op("Max", *views_along(builder, y, axis, position))
    return from_compute_type(builder, y, builder.dtype(x))


def lower_with_indices(
    builder: Builder,
    x: Value,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> tuple[Value, Value] | None:
    """``aten::max_pool2d_with_indices``; None for int64: no dtype of the runtime's kernel holds all its values."""
    dtype, sizes = builder.dtype(x), builder.sizes(x)
    if dtype == "INT64":
        return None
    window = axes(kernel_size, stride, padding, dilation, ceil_mode)
    first = int64_vector(builder, [0])
    wide, compute = (cast(builder, x, "DOUBLE"), "DOUBLE") if dtype in INTEGER_TYPES else to_compute_type(builder, x)
    wide = wide if len(sizes) == 4 else builder.op("Unsqueeze", wide, first)
    # ONNX Runtime refuses padding as long as the kernel, which only a dilated window with overhang needs.
    fits = all(axis.padding + axis.overhang < axis.kernel for axis in window)
    overhang = [0, 0] if fits else [axis.overhang for axis in window]
    pool_input = pad(builder, wide, 4, [0, 0], overhang, scalar(builder, -math.inf, compute))
    attributes: dict[str, Any] = {
        "kernel_shape": [axis.kernel for axis in window],
        "strides": [axis.stride for axis in window],
        "dilations": [axis.dilation for axis in window],
        "pads": pads(window) if fits else [axis.padding for axis in window] * 2,
    }
    plane = _Plane(builder, pool_input, sizes[-2:], overhang)

    largest, index = builder.op("MaxPool", pool_input, outputs=2, **attributes)
    nan_indices = builder.op("Where", builder.op("IsNaN", pool_input), plane.indices, plane.no_index)
    last_nan = builder.op("MaxPool", nan_indices, **attributes)
    is_nan = builder.op("Greater", last_nan, plane.no_index)
    y = builder.op("Where", is_nan, scalar(builder, math.nan, compute), largest)
    i = builder.op("Where", is_nan, cast(builder, last_nan, "INT64"), builder.op("Mod", index, plane.size))
    if not fits:
        i = plane.renumbered(builder, i, _side(builder, wide, 3))
    if len(sizes) == 3:
        y, i = builder.op("Squeeze", y, first), builder.op("Squeeze", i, first)
    return cast(builder, y, dtype), i


class _Plane:
    """The indices of the pooled plane, row by row, in a floating dtype that holds them exactly."""

    def __init__(self, builder: Builder, x: Value, sizes: Sequence[int | None], overhang: Sequence[int]) -> None:
        static = [size + more for size, more in zip(sizes, overhang, strict=True) if size is not None]
        dtype = "FLOAT" if len(static) == 2 and math.prod(static) < _EXACT_IN_FLOAT32 else "DOUBLE"
        height, self.width = _side(builder, x, 2), _side(builder, x, 3)
        self.size = builder.op("Mul", height, self.width)
        zero, one = (builder.constant(np.array(n, dtype=np.int64)) for n in (0, 1))
        flat = builder.op("Range", zero, builder.op("Squeeze", self.size, int64_vector(builder, [0])), one)
        indices = builder.op("Reshape", flat, builder.op("Concat", height, self.width, axis=0))
        self.indices = cast(builder, indices, dtype)
        self.no_index = scalar(builder, -1.0, dtype)

    def renumbered(self, builder: Builder, indices: Value, width: Value) -> Value:
        """``indices`` of this plane as indices of a plane that is only ``width`` wide."""
        row, column = builder.op("Div", indices, self.width), builder.op("Mod", indices, self.width)
        return builder.op("Add", builder.op("Mul", row, width), column)


def _side(builder: Builder, x: Value, position: int) -> Value:
    """The length of one axis of ``x``, as a vector of one."""
    shape = builder.op("Shape", x)
    return builder.op("Slice", shape, int64_vector(builder, [position]), int64_vector(builder, [position + 1]))


def _lowest(dtype: str) -> float:
    """The padding value: nothing in a window is lower."""
    return int(np.iinfo(dtype.lower()).min) if dtype in INTEGER_TYPES else -math.inf


_ARGUMENTS: tuple[ArgumentKind, ...] = ("v", "is", "is", "is", "is", "b")

PROVIDES = (
    Lowering(
        name="max_pool2d",
        about="MaxPool2d: NaN and -inf are lost in the runtime; integers, unbatched input, a dropped last window fail",
        issue="https://github.com/microsoft/onnxruntime/issues/24819",
        aten="max_pool2d",
        arguments=_ARGUMENTS,
        lower=lower,
    ),
    Lowering(
        name="max_pool2d_with_indices",
        about="MaxPool2d with return_indices: NaN is lost in the runtime, from the values and from the indices",
        issue=None,
        aten="max_pool2d_with_indices",
        arguments=_ARGUMENTS,
        lower=lower_with_indices,
    ),
)
