"""MaxPool2d: NaN and -inf, which ONNX Runtime's kernels lose, and windows that ONNX declares wrongly.

Without indices, the maximum is taken along the rows and then along the columns over strided
views, with ``Max``, which keeps NaN and -inf. On one CPU thread this costs 2 to 9 times the stock
MaxPool (k2 s2 on 512x512: 9; k3 s1 on 56x56: 3), where a second pool over a mask costs 2 to 19.

With indices, a second pool finds the last NaN of each window, which is the one that torch
reports; elsewhere ONNX Runtime's indices are right, and are brought from ONNX's numbering over
the whole tensor to torch's numbering within the plane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.fixes._builder import INTEGERS, Builder, Value, cast, integers, narrowed, number, widened
from harness.fixes._lowering import Kind, Lowering
from harness.fixes._windows import along, axes, pad, pads

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
    y, compute = widened(builder, x)
    begins, ends = [axis.padding for axis in window], [axis.padding + axis.overhang for axis in window]
    y = pad(builder, y, len(builder.sizes(x)), begins, ends, number(builder, _least(compute), compute))
    for axis, position in zip(reversed(window), (-1, -2), strict=True):
        views = along(builder, y, axis, position)
        y = builder.op("Max", *views)
    return narrowed(builder, y, builder.dtype(x))


def lower_with_indices(
    builder: Builder,
    x: Value,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> tuple[Value, Value] | None:
    """``aten::max_pool2d_with_indices``; None for int64, which no dtype of the runtime's kernel holds exactly."""
    dtype, sizes = builder.dtype(x), builder.sizes(x)
    if dtype == "INT64":
        return None
    window = axes(kernel_size, stride, padding, dilation, ceil_mode)
    first = integers(builder, [0])
    wide, compute = (cast(builder, x, "DOUBLE"), "DOUBLE") if dtype in INTEGERS else widened(builder, x)
    wide = wide if len(sizes) == 4 else builder.op("Unsqueeze", wide, first)
    # ONNX Runtime refuses a pad as long as the kernel, which only a dilated window can hang over by.
    fits = all(axis.padding + axis.overhang < axis.kernel for axis in window)
    overhang = [0, 0] if fits else [axis.overhang for axis in window]
    pooled = pad(builder, wide, 4, [0, 0], overhang, number(builder, -math.inf, compute))
    pool: dict[str, Any] = {
        "kernel_shape": [axis.kernel for axis in window],
        "strides": [axis.stride for axis in window],
        "dilations": [axis.dilation for axis in window],
        "pads": pads(window) if fits else [axis.padding for axis in window] * 2,
    }
    plane = _Plane(builder, pooled, sizes[-2:], overhang)

    largest, index = builder.op("MaxPool", pooled, outputs=2, **pool)
    where_nan = builder.op("Where", builder.op("IsNaN", pooled), plane.places, plane.nowhere)
    last = builder.op("MaxPool", where_nan, **pool)
    is_nan = builder.op("Greater", last, plane.nowhere)
    y = builder.op("Where", is_nan, number(builder, math.nan, compute), largest)
    i = builder.op("Where", is_nan, cast(builder, last, "INT64"), builder.op("Mod", index, plane.size))
    if not fits:
        i = plane.without(builder, i, _side(builder, wide, 3))
    if len(sizes) == 3:
        y, i = builder.op("Squeeze", y, first), builder.op("Squeeze", i, first)
    return cast(builder, y, dtype), i


class _Plane:
    """The places of the plane that is pooled, numbered row by row in a floating dtype that holds them exactly."""

    def __init__(self, builder: Builder, x: Value, sizes: Sequence[int | None], overhang: Sequence[int]) -> None:
        known = [size + more for size, more in zip(sizes, overhang, strict=True) if size is not None]
        dtype = "FLOAT" if len(known) == 2 and math.prod(known) < _EXACT_IN_FLOAT32 else "DOUBLE"
        height, self.width = _side(builder, x, 2), _side(builder, x, 3)
        self.size = builder.op("Mul", height, self.width)
        zero, one = (builder.constant(np.array(n, dtype=np.int64)) for n in (0, 1))
        numbers = builder.op("Range", zero, builder.op("Squeeze", self.size, integers(builder, [0])), one)
        places = builder.op("Reshape", numbers, builder.op("Concat", height, self.width, axis=0))
        self.places = cast(builder, places, dtype)
        self.nowhere = number(builder, -1.0, dtype)

    def without(self, builder: Builder, places: Value, width: Value) -> Value:
        """``places`` of this plane in the numbering of one that is only ``width`` wide."""
        row, column = builder.op("Div", places, self.width), builder.op("Mod", places, self.width)
        return builder.op("Add", builder.op("Mul", row, width), column)


def _side(builder: Builder, x: Value, position: int) -> Value:
    """The length of one axis of ``x``, as a vector of one."""
    return builder.op("Slice", builder.op("Shape", x), integers(builder, [position]), integers(builder, [position + 1]))


def _least(dtype: str) -> float:
    """What padding is filled with: nothing in a window is less."""
    return int(np.iinfo(dtype.lower()).min) if dtype in INTEGERS else -math.inf


_ARGUMENTS: tuple[Kind, ...] = ("v", "is", "is", "is", "is", "b")

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
