"""CastLike between numbers. ``onnx.reference`` rounds to 8-bit and 4-bit floating types in another way than Cast."""

from __future__ import annotations

from typing import Any

from harness.blame.double_precision import FLOATS
from harness.blame.operators._operator import Array, Operator


class CastLike(Operator):
    """CastLike as defined in https://onnx.ai/onnx/operators/onnx__CastLike.html."""

    def compute(self, x: Array, like: Array, **_: Any) -> tuple[Array]:
        """``x`` in the dtype of ``like``."""
        for values in (x, like):
            if values.dtype.kind not in "biu" and values.dtype.name not in FLOATS:
                raise NotImplementedError(f"CastLike of {x.dtype} to {like.dtype}")
        return (x.astype(like.dtype),)


CAST_LIKE_OPERATORS = (CastLike,)
