"""AvgPool2d: both exporters drop the divisor, and ONNX or ONNX Runtime cannot average some inputs.

The sum is written as torch computes it: pad, take the strided view of each element of the
window, add the views in row order, divide. AveragePool times a factor would be up to 2 ULP off.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.fixes._builder import Builder, Value, from_compute_type, scalar, to_compute_type
from harness.fixes._lowering import Lowering
from harness.fixes._windows import Axis, axes, pad, pads, window_views


def lower(
    builder: Builder,
    x: Value,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value | None:
    """``aten::avg_pool2d``; None if the stock lowering is correct."""
    window = axes(kernel_size, stride, padding, (1, 1), ceil_mode)
    batched = len(builder.sizes(x)) == 4
    plain_average = divisor_override is None and builder.dtype(x) in {"FLOAT", "FLOAT16"}
    if plain_average and batched and not ceil_mode:
        return None
    padded = any(axis.padding for axis in window)
    overhanging = any(axis.overhang for axis in window)
    if plain_average and not (count_include_pad and padded and overhanging):
        # The overhang never counts. An AveragePool that excludes padding excludes it if nothing else is padded.
        return _average_pool(builder, x, window, batched=batched, include_pad=count_include_pad and padded)
    return _divided_sum(builder, x, window, divisor_override, include_pad=count_include_pad)


def _average_pool(builder: Builder, x: Value, window: tuple[Axis, Axis], *, batched: bool, include_pad: bool) -> Value:
    first = builder.constant(np.array([0], dtype=np.int64))
    x = x if batched else builder.op("Unsqueeze", x, first)
    y = builder.op(
        "AveragePool",
        x,
        kernel_shape=[axis.kernel for axis in window],
        strides=[axis.stride for axis in window],
        pads=pads(window),
        count_include_pad=int(include_pad),
    )
    return y if batched else builder.op("Squeeze", y, first)


def _divided_sum(
    builder: Builder, x: Value, window: tuple[Axis, Axis], divisor_override: int | None, *, include_pad: bool
) -> Value:
    dtype, rank = builder.dtype(x), len(builder.sizes(x))
    wide, compute = to_compute_type(builder, x)
    padding, overhang = [axis.padding for axis in window], [axis.overhang for axis in window]
    zero, one = scalar(builder, 0, compute), scalar(builder, 1, compute)
    ends = [axis.padding + axis.overhang for axis in window]
    total = _window_sum(builder, pad(builder, wide, rank, padding, ends, zero), window)
    if divisor_override is not None:
        divisor = scalar(builder, divisor_override, compute)
    else:
        # The sum of a plane of ones counts the elements of each window.
        ones = pad(builder, _plane_of(builder, one, x), 2, padding, padding, one if include_pad else zero)
        divisor = _window_sum(builder, pad(builder, ones, 2, [0, 0], overhang, zero), window)
    return from_compute_type(builder, builder.op("Div", total, divisor), dtype)


def _plane_of(builder: Builder, value: Value, x: Value) -> Value:
    """A plane with the height and width of ``x``, filled with ``value``."""
    last_two = [builder.constant(np.array([bound], dtype=np.int64)) for bound in (-2, np.iinfo(np.int64).max)]
    return builder.op("Expand", value, builder.op("Slice", builder.op("Shape", x), *last_two))


def _window_sum(builder: Builder, padded: Value, window: tuple[Axis, Axis]) -> Value:
    total, *views = window_views(builder, padded, window)
    for view in views:
        total = builder.op("Add", total, view)
    return total


PROVIDES = (
    Lowering(
        name="avg_pool2d",
        about="AvgPool2d: divisor_override is dropped by both exporters; unbatched input, ceil_mode and float64 fail",
        issue="https://github.com/pytorch/pytorch/issues/105349",
        aten="avg_pool2d",
        arguments=("v", "is", "is", "is", "b", "b", "i"),
        lower=lower,
    ),
)
