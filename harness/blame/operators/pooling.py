"""The pools of ONNX in NumPy, for the float64 evaluation of exported graphs.

``onnx.reference`` has them, but gives wrong indices for more than one channel, gives wrong shapes with ``ceil_mode``
and drops NaN, so it cannot decide whether an exported file is right. Of the global pools it has GlobalMaxPool for
images only, and no GlobalLpPool. These follow the operators' definitions at opset 22 (a last window that would start
in the right padding is dropped). NaN propagates, as in torch; the ONNX specification says nothing about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from harness.blame.evaluated_model import FLOATS
from harness.blame.operators import Array, Operator, wide


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
        """For each kernel offset, row by row, the padded value that each output position reads."""
        for offset in product(*map(range, self.kernel)):
            slices: list[Any] = [
                slice(tap * dilation, tap * dilation + (out - 1) * stride + 1, stride)
                for tap, dilation, out, stride in zip(offset, self.dilations, self.out, self.strides, strict=True)
            ]
            yield padded[(..., *slices)]

    def pad(self, values: Array, fill: float) -> Array:
        """``values`` padded on both sides, far enough on the right for the last window to fit."""
        needed = [
            (out - 1) * stride + dilation * (kernel - 1) + 1
            for out, stride, dilation, kernel in zip(self.out, self.strides, self.dilations, self.kernel, strict=True)
        ]
        right = [max(need - size - left, 0) for need, size, left in zip(needed, self.size, self.before, strict=True)]
        widths = [(0, 0)] * (values.ndim - len(right)) + list(zip(self.before, right, strict=True))
        return np.pad(values, widths, constant_values=fill)


def _window(size: Sequence[int], attributes: Mapping[str, Any]) -> _Window:
    """The window over ``size`` by the node's attributes; one that is None or missing gets ONNX's default."""
    rank, kernel = len(size), attributes["kernel_shape"]
    strides, dilations = attributes.get("strides") or [1] * rank, attributes.get("dilations") or [1] * rank
    auto_pad, ceil_mode = attributes.get("auto_pad"), bool(attributes.get("ceil_mode"))
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
        pads = [0] * (2 * rank) if auto_pad == "VALID" else list(attributes.get("pads") or [0] * (2 * rank))
        before, after = pads[:rank], pads[rank:]
        out = [
            _output_length(length, wide, stride, left, right, ceil_mode)
            for length, wide, stride, left, right in zip(size, span, strides, before, after, strict=True)
        ]
    return _Window(*map(tuple, (kernel, strides, dilations, before, after, size, out)))


def _output_length(length: int, span: int, stride: int, left: int, right: int, ceil_mode: bool) -> int:
    last_start = length + left + right - span
    if not ceil_mode:
        return last_start // stride + 1
    out = -(-last_start // stride) + 1
    return out - 1 if (out - 1) * stride >= length + left else out


class MaxPool(OpRun):
    """MaxPool as defined in https://onnx.ai/onnx/operators/onnx__MaxPool.html."""

    op_domain = ""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array, ...]:
        window = _window(x.shape[2:], attributes)
        indices = np.arange(x.size, dtype=np.int64).reshape(x.shape)
        if attributes.get("storage_order"):
            indices = _column_major(indices)
        floating = x.dtype.name in FLOATS
        lowest = -np.inf if floating else np.iinfo(x.dtype).min
        best = np.full(x.shape[:2] + window.out, lowest, dtype=x.dtype)
        best_index = np.full(best.shape, -1, dtype=np.int64)
        taps = zip(window.taps(window.pad(x, lowest)), window.taps(window.pad(indices, -1)), strict=True)
        for value, index in taps:
            better = (index >= 0) & ((value > best) | np.isnan(value) | (best_index < 0))
            best, best_index = np.where(better, value, best), np.where(better, index, best_index)
        return (best, best_index)[: len(self.output)]


class AveragePool(OpRun):
    """AveragePool as defined in https://onnx.ai/onnx/operators/onnx__AveragePool.html."""

    op_domain = ""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array]:
        return (self.means(x, attributes).astype(x.dtype),)

    @staticmethod
    def means(x: Array, attributes: Mapping[str, Any]) -> Array:
        """The mean of each window, by the attributes of an AveragePool node."""
        window = _window(x.shape[2:], attributes)
        counted = np.ones(x.shape[2:], dtype=np.int64)
        if attributes.get("count_include_pad"):
            counted = np.pad(counted, list(zip(window.before, window.after, strict=True)), constant_values=1)
            padded_window = _Window(
                window.kernel,
                window.strides,
                window.dilations,
                (0,) * len(window.size),
                (0,) * len(window.size),
                counted.shape,
                window.out,
            )
            count = np.sum(list(padded_window.taps(padded_window.pad(counted, 0))), axis=0)
        else:
            count = np.sum(list(window.taps(window.pad(counted, 0))), axis=0)
        means: Array = np.sum(list(window.taps(window.pad(wide(x), 0))), axis=0) / count
        return means


class LpPool(OpRun):
    """LpPool as defined in https://onnx.ai/onnx/operators/onnx__LpPool.html."""

    op_domain = ""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array]:
        window = _window(x.shape[2:], attributes)
        p = float(attributes.get("p") or 2)
        powers = np.abs(wide(x)) ** p
        total: Array = np.sum(list(window.taps(window.pad(powers, 0))), axis=0)
        return ((total ** (1 / p)).astype(x.dtype),)


class MaxUnpool(OpRun):
    """MaxUnpool as defined in https://onnx.ai/onnx/operators/onnx__MaxUnpool.html, where it is defined.

    What ``output_shape`` means for the indices is not: https://github.com/onnx/onnx/issues/2398.
    """

    op_domain = ""

    def _run(self, x: Array, indices: Array, output_shape: Array | None = None, **attributes: Any) -> tuple[Array]:
        if output_shape is not None:
            raise NotImplementedError("MaxUnpool with output_shape")
        kernel, rank = attributes["kernel_shape"], x.ndim - 2
        strides, pads = attributes.get("strides") or [1] * rank, attributes.get("pads") or [0] * (2 * rank)
        sizes = [
            (length - 1) * stride - pads[axis] - pads[axis + rank] + width
            for axis, (length, stride, width) in enumerate(zip(x.shape[2:], strides, kernel, strict=True))
        ]
        result = np.zeros((*x.shape[:2], *sizes), x.dtype)
        result.reshape(-1)[indices.reshape(-1)] = x.reshape(-1)
        return (result,)


def _column_major(indices: Array) -> Array:
    """Flat indices that count down the columns within each plane."""
    plane_size = int(np.prod(indices.shape[2:]))
    in_plane = np.arange(plane_size, dtype=np.int64).reshape(indices.shape[2:], order="F")
    planes = np.arange(indices.shape[0] * indices.shape[1], dtype=np.int64).reshape(*indices.shape[:2])
    return planes.reshape(*indices.shape[:2], *[1] * in_plane.ndim) * plane_size + in_plane


def _spatial(x: Array) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


class GlobalMaxPool(Operator):
    """GlobalMaxPool as defined in https://onnx.ai/onnx/operators/onnx__GlobalMaxPool.html. NaN propagates."""

    def compute(self, x: Array, **_: Any) -> tuple[Array]:
        """The largest value of each plane."""
        return (x.max(axis=_spatial(x), keepdims=True),)


class GlobalAveragePool(Operator):
    """GlobalAveragePool as defined in https://onnx.ai/onnx/operators/onnx__GlobalAveragePool.html."""

    def compute(self, x: Array, **_: Any) -> tuple[Array]:
        """The mean of each plane."""
        return (wide(x).mean(axis=_spatial(x), keepdims=True).astype(x.dtype),)


class GlobalLpPool(Operator):
    """GlobalLpPool as defined in https://onnx.ai/onnx/operators/onnx__GlobalLpPool.html."""

    def compute(self, x: Array, p: float = 2, **_: Any) -> tuple[Array]:
        """The p-norm of each plane."""
        total = (np.abs(wide(x)) ** p).sum(axis=_spatial(x), keepdims=True)
        return ((total ** (1 / p)).astype(x.dtype),)


POOLING_OPERATORS = (MaxPool, AveragePool, LpPool, MaxUnpool, GlobalMaxPool, GlobalAveragePool, GlobalLpPool)
"""For ``new_ops`` of :class:`onnx.reference.ReferenceEvaluator`."""
