"""The windows of a 2-D pool as strided views, independent of the input's height and width.

PyTorch drops a last window that would start beyond the input and its left padding; with
``ceil_mode`` it lets the last window extend beyond the padding. Both are one number: padding the end by
``padding + overhang`` with ``overhang = min(stride - 1, dilation * (kernel - 1) - padding)``
makes the plain floor rule give exactly PyTorch's windows. For windows start at multiples of the
stride and no later than ``H + 2p + overhang - d(k - 1) - 1``: the first bound rounds the division
up, the second is ``H + p - 1``, the last position where a window may start. So the lowerings never
need ONNX's ``ceil_mode``, whose shape inference before opset 22 keeps the dropped window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from harness.fixes._builder import Builder, Value

_TO_THE_END = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Axis:
    """One axis of the window."""

    kernel: int
    stride: int
    padding: int
    dilation: int
    overhang: int

    @property
    def last_offset(self) -> int:
        """The distance of the last element of a window from its first."""
        return self.dilation * (self.kernel - 1)

    def count(self, size: int) -> int:
        """The number of windows along an axis of ``size`` elements."""
        return (size + 2 * self.padding + self.overhang - self.last_offset - 1) // self.stride + 1


def axes(
    kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], ceil_mode: bool
) -> tuple[Axis, Axis]:
    """Height and width, from torch's arguments: one number for both, or one each; ``stride`` may be ()."""
    height, width = (
        Axis(k, s, p, d, max(0, min(s - 1, d * (k - 1) - p)) if ceil_mode else 0)
        for k, s, p, d in zip(_pair(kernel), _pair(stride or kernel), _pair(padding), _pair(dilation), strict=True)
    )
    return height, width


def _pair(numbers: Sequence[int]) -> tuple[int, int]:
    return (numbers[0], numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def pads(window: Sequence[Axis]) -> list[int]:
    """The ``pads`` attribute of an ONNX pool: all begins, then all ends."""
    return [axis.padding for axis in window] + [axis.padding + axis.overhang for axis in window]


def pad(builder: Builder, x: Value, rank: int, begins: Sequence[int], ends: Sequence[int], value: Value) -> Value:
    """``x``, of ``rank`` axes, with its last two padded with ``value``; ``x`` itself if there is nothing to pad."""
    if not any((*begins, *ends)):
        return x
    outer = [0] * (rank - 2)
    amounts = builder.constant(np.array([*outer, *begins, *outer, *ends], dtype=np.int64))
    return builder.op("Pad", x, amounts, value)


def views_along(builder: Builder, x: Value, axis: Axis, position: int) -> list[Value]:
    """One strided slice of ``x`` along axis ``position`` for each offset in the window: that element of all windows."""
    return [_slice(builder, x, [axis], [position], [offset]) for offset in range(axis.kernel)]


def window_views(builder: Builder, x: Value, window: tuple[Axis, Axis]) -> list[Value]:
    """As :func:`views_along`, for the last two axes together, in row order, as torch iterates over a window."""
    offsets = product(range(window[0].kernel), range(window[1].kernel))
    return [_slice(builder, x, window, [-2, -1], list(offset)) for offset in offsets]


def _slice(
    builder: Builder, x: Value, window: Sequence[Axis], positions: Sequence[int], offsets: Sequence[int]
) -> Value:
    starts = [offset * axis.dilation for axis, offset in zip(window, offsets, strict=True)]
    elements_after = [axis.last_offset - start for axis, start in zip(window, starts, strict=True)]
    ends = [-after if after else _TO_THE_END for after in elements_after]
    steps = [axis.stride for axis in window]
    return builder.op(
        "Slice", x, *(builder.constant(np.array(vector, dtype=np.int64)) for vector in (starts, ends, positions, steps))
    )
