"""Softmax, LogSoftmax and Hardmax.

Below opset 13 all axes from ``axis`` on are one: the input is flattened to two dimensions. ``onnx.reference`` does not.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from harness.blame.operators._operator import Array, Operator, wide


class Softmax(Operator):
    """Softmax as defined in https://onnx.ai/onnx/operators/onnx__Softmax.html."""

    def compute(self, x: Array, axis: int = -1, **_: Any) -> tuple[Array]:
        """The normalised exponentials."""
        return (self._by_rows(x, axis),)

    def rows(self, values: Array) -> Array:
        """The answer for an array whose last axis is the one to normalise."""
        return softmax(values)

    def _by_rows(self, x: Array, axis: int) -> Array:
        if x.size == 0:
            return x
        axis %= x.ndim or 1
        if self.opset < 13:
            rows = wide(x).reshape(prod(x.shape[:axis]), -1)
            return self.rows(rows).reshape(x.shape).astype(x.dtype)
        return np.moveaxis(self.rows(np.moveaxis(wide(x), axis, -1)), -1, axis).astype(x.dtype)


class LogSoftmax(Softmax):
    """LogSoftmax as defined in https://onnx.ai/onnx/operators/onnx__LogSoftmax.html."""

    def rows(self, values: Array) -> Array:
        """The logarithm of the softmax."""
        shifted = values - values.max(axis=-1, keepdims=True)
        result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return result


class Hardmax(Softmax):
    """Hardmax as defined in https://onnx.ai/onnx/operators/onnx__Hardmax.html."""

    def rows(self, values: Array) -> Array:
        """1 at the first largest value of a row, else 0."""
        result = np.zeros_like(values)
        np.put_along_axis(result, values.argmax(axis=-1)[..., None], 1, axis=-1)
        return result


def softmax(values: Array) -> Array:
    """Softmax over the last axis."""
    exponentials = np.exp(values - values.max(axis=-1, keepdims=True))
    result: Array = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return result


SOFTMAX_OPERATORS = (Softmax, LogSoftmax, Hardmax)
