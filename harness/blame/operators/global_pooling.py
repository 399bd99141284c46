"""The global pools, for any rank. ``onnx.reference`` has GlobalMaxPool for images only, and no GlobalLpPool."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.blame.operators._operator import Array, Operator, wide


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


GLOBAL_POOLING_OPERATORS = (GlobalMaxPool, GlobalAveragePool, GlobalLpPool)
