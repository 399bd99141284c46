"""OneHot, with a depth of shape [1] as well as a scalar, which is what ``onnx.reference`` takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.blame.operators._operator import Array, Operator


class OneHot(Operator):
    """OneHot as defined in https://onnx.ai/onnx/operators/onnx__OneHot.html.

    A negative index counts from the end at opset 11 and later. At opset 9 the definition has it outside, where there
    is no 1, and ONNX Runtime counts from the end all the same.
    """

    def compute(self, indices: Array, depth: Array, values: Array, axis: int = -1, **_: Any) -> tuple[Array]:
        """The second of ``values`` where an index points, else the first."""
        length = int(np.ravel(depth)[0])
        positions = indices.astype(np.int64)
        if self.opset < 11 and np.any(positions < 0):
            raise NotImplementedError("OneHot with a negative index at opset 9")
        positions = np.where(positions < 0, positions + length, positions)
        hot = positions[..., None] == np.arange(length)
        return (np.moveaxis(np.where(hot, values[1], values[0]), -1, axis),)


ONE_HOT_OPERATORS = (OneHot,)
