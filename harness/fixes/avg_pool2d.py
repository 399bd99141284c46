"""AvgPool2d: the divisor that both exporters drop, and what ONNX Runtime or ONNX itself cannot average.

The sum is written as torch computes it: pad, take the strided view of each element of the
window, add the views in row order, divide. AveragePool times a factor would be up to 2 ULP off.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.fixes._builder import Builder, Value, narrowed, number, widened
from harness.fixes._lowering import Lowering
from harness.fixes._windows import Axis, axes, elements, pad, pads


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
    """``aten::avg_pool2d``; None where the stock lowering is right."""
    window = axes(kernel_size, stride, padding, (1, 1), ceil_mode)
    batched = len(builder.sizes(x)) == 4
    averages = divisor_override is None and builder.dtype(x) in {"FLOAT", "FLOAT16"}
    if averages and batched and not ceil_mode:
        return None
    padded = any(axis.padding for axis in window)
    overhanging = any(axis.overhang for axis in window)
    if averages and not (count_include_pad and padded and overhanging):
        # Overhang never counts; an AveragePool that excludes padding leaves it out where nothing else is padded.
        return _average_pool(builder, x, window, batched=batched, include=count_include_pad and padded)
    return _divided_sum(builder, x, window, divisor_override, include=count_include_pad)


def _average_pool(builder: Builder, x: Value, window: tuple[Axis, Axis], *, batched: bool, include: bool) -> Value:
    first = builder.constant(np.array([0], dtype=np.int64))
    x = x if batched else builder.op("Unsqueeze", x, first)
    y = builder.op(
        "AveragePool",
        x,
        kernel_shape=[axis.kernel for axis in window],
        strides=[axis.stride for axis in window],
        pads=pads(window),
        count_include_pad=int(include),
    )
    return y if batched else builder.op("Squeeze", y, first)


def _divided_sum(builder: Builder, x: Value, window: tuple[Axis, Axis], divisor: int | None, *, include: bool) -> Value:
    dtype, rank = builder.dtype(x), len(builder.sizes(x))
    wide, compute = widened(builder, x)
    padding, overhang = [axis.padding for axis in window], [axis.overhang for axis in window]
    zero, one = number(builder, 0, compute), number(builder, 1, compute)
    ends = [axis.padding + axis.overhang for axis in window]
    total = _sum(builder, pad(builder, wide, rank, padding, ends, zero), window)
    if divisor is not None:
        below = number(builder, divisor, compute)
    else:
        counted = pad(builder, _plane_of(builder, one, x), 2, padding, padding, one if include else zero)
        below = _sum(builder, pad(builder, counted, 2, [0, 0], overhang, zero), window)
    return narrowed(builder, builder.op("Div", total, below), dtype)


def _plane_of(builder: Builder, filling: Value, x: Value) -> Value:
    """A plane as high and wide as ``x``'s, each element of it ``filling``."""
    last_two = [builder.constant(np.array([bound], dtype=np.int64)) for bound in (-2, np.iinfo(np.int64).max)]
    return builder.op("Expand", filling, builder.op("Slice", builder.op("Shape", x), *last_two))


def _sum(builder: Builder, padded: Value, window: tuple[Axis, Axis]) -> Value:
    first, *others = elements(builder, padded, window)
    for view in others:
        first = builder.op("Add", first, view)
    return first


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
