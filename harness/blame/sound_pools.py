"""ONNX's MaxPool and AveragePool in NumPy, for the float64 evaluation of exported graphs.

``onnx.reference`` has both, but gives wrong indices for more than one channel, wrong shapes with
``ceil_mode`` and drops NaN, so that it cannot break a tie. These are written from the operators'
definitions at opset 22 (a last window that would start in the right padding is dropped), and NaN
propagates, as in torch; the ONNX text is silent on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Window:
    """A sliding window over the spatial axes of ``(N, C, *spatial)``, every attribute resolved."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    size: tuple[int, ...]
    out: tuple[int, ...]

    def taps(self, padded: Array) -> Iterator[Array]:
        """For each place in the kernel, row by row, what every output position sees there."""
        for offset in product(*map(range, self.kernel)):
            slices: list[Any] = [
                slice(at * dilation, at * dilation + (out - 1) * stride + 1, stride)
                for at, dilation, out, stride in zip(offset, self.dilations, self.out, self.strides, strict=True)
            ]
            yield padded[(..., *slices)]

    def pad(self, values: Array, fill: float) -> Array:
        """``values`` with padding on both sides, far enough to the right for the last window to fit."""
        reach = [
            (out - 1) * stride + dilation * (kernel - 1) + 1
            for out, stride, dilation, kernel in zip(self.out, self.strides, self.dilations, self.kernel, strict=True)
        ]
        right = [max(need - size - left, 0) for need, size, left in zip(reach, self.size, self.before, strict=True)]
        widths = [(0, 0)] * (values.ndim - len(right)) + list(zip(self.before, right, strict=True))
        return np.pad(values, widths, constant_values=fill)


def _window(size: Sequence[int], given: Mapping[str, Any]) -> _Window:
    """The window over ``size`` by the node's attributes; one that is None or missing has ONNX's default."""
    rank, kernel = len(size), given["kernel_shape"]
    strides, dilations = given.get("strides") or [1] * rank, given.get("dilations") or [1] * rank
    auto_pad, ceil_mode = given.get("auto_pad"), bool(given.get("ceil_mode"))
    span = [dilation * (width - 1) + 1 for dilation, width in zip(dilations, kernel, strict=True)]
    if auto_pad in {"SAME_UPPER", "SAME_LOWER"}:
        out = [-(-length // stride) for length, stride in zip(size, strides, strict=True)]
        total = [
            max((count - 1) * stride + wide - length, 0)
            for count, stride, wide, length in zip(out, strides, span, size, strict=True)
        ]
        before = [(pad if auto_pad == "SAME_UPPER" else pad + 1) // 2 for pad in total]
        after = [pad - left for pad, left in zip(total, before, strict=True)]
    else:
        pads = [0] * (2 * rank) if auto_pad == "VALID" else list(given.get("pads") or [0] * (2 * rank))
        before, after = pads[:rank], pads[rank:]
        out = [
            _length(length, wide, stride, left, right, ceil_mode)
            for length, wide, stride, left, right in zip(size, span, strides, before, after, strict=True)
        ]
    return _Window(*map(tuple, (kernel, strides, dilations, before, after, size, out)))


def _length(length: int, span: int, stride: int, left: int, right: int, ceil_mode: bool) -> int:
    room = length + left + right - span
    if not ceil_mode:
        return room // stride + 1
    out = -(-room // stride) + 1
    return out - 1 if (out - 1) * stride >= length + left else out


class MaxPool(OpRun):
    """As https://onnx.ai/onnx/operators/onnx__MaxPool.html defines it."""

    op_domain = ""

    def _run(self, x: Array, **given: Any) -> tuple[Array, ...]:
        window = _window(x.shape[2:], given)
        places = np.arange(x.size, dtype=np.int64).reshape(x.shape)
        if given.get("storage_order"):
            places = _column_major(places)
        floating = x.dtype.kind == "f"
        lowest = -np.inf if floating else np.iinfo(x.dtype).min
        best = np.full(x.shape[:2] + window.out, lowest, dtype=x.dtype)
        where = np.full(best.shape, -1, dtype=np.int64)
        taps = zip(window.taps(window.pad(x, lowest)), window.taps(window.pad(places, -1)), strict=True)
        for value, place in taps:
            better = (place >= 0) & ((value > best) | np.isnan(value) | (where < 0))
            best, where = np.where(better, value, best), np.where(better, place, where)
        return (best, where)[: len(self.output)]


class AveragePool(OpRun):
    """As https://onnx.ai/onnx/operators/onnx__AveragePool.html defines it."""

    op_domain = ""

    def _run(self, x: Array, **given: Any) -> tuple[Array]:
        window = _window(x.shape[2:], given)
        counted = np.ones(x.shape[2:], dtype=np.int64)
        if given.get("count_include_pad"):
            counted = np.pad(counted, list(zip(window.before, window.after, strict=True)), constant_values=1)
            around = _Window(
                window.kernel,
                window.strides,
                window.dilations,
                (0,) * len(window.size),
                (0,) * len(window.size),
                counted.shape,
                window.out,
            )
            count = np.sum(list(around.taps(around.pad(counted, 0))), axis=0)
        else:
            count = np.sum(list(window.taps(window.pad(counted, 0))), axis=0)
        total = np.sum(list(window.taps(window.pad(x, 0))), axis=0)
        return ((total / count).astype(x.dtype),)


def _column_major(places: Array) -> Array:
    """The flat index within each plane, counted down the columns."""
    plane = int(np.prod(places.shape[2:]))
    inside = np.arange(plane, dtype=np.int64).reshape(places.shape[2:], order="F")
    planes = np.arange(places.shape[0] * places.shape[1], dtype=np.int64).reshape(*places.shape[:2])
    return planes.reshape(*places.shape[:2], *[1] * inside.ndim) * plane + inside


SOUND = (MaxPool, AveragePool)
