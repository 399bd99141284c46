"""Values in another representation or order: quantized, cast, as one-hot vectors, and gathered one by one.

``onnx.reference`` has the first two from opset 19 on, and computes in float32. Its CastLike rounds to 8-bit and 4-bit
floating types in another way than Cast, and its OneHot takes a depth that is a scalar, but none of shape [1]. Its
GatherElements refuses an axis of more than 64, or gathers from other rows there.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from onnx import TensorProto

from harness.blame.evaluated_model import FLOATS
from harness.blame.operators import MICROSOFT, Array, Operator, in_domains, wide
from harness.data_files.onnx_files import dtype_from_onnx


class QuantizeLinear(Operator):
    """QuantizeLinear as defined in https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html.

    The quotient has the dtype of the scale, or the one that ``precision`` names: its rounding decides ties.
    """

    def compute(
        self,
        x: Array,
        scale: Array,
        zero_point: Array | None = None,
        axis: int = 1,
        block_size: int = 0,
        output_dtype: int = 0,
        saturate: int = 1,
        precision: int = 0,
        **_: Any,
    ) -> tuple[Array]:
        """``x`` over the scale, rounded to even, with the zero point added."""
        dtype = dtype_from_onnx(output_dtype or TensorProto.UINT8) if zero_point is None else zero_point.dtype
        exact = dtype_from_onnx(precision) if precision else scale.dtype
        values = wide(x.astype(exact) / like_input(scale, x.shape, axis, block_size).astype(exact))
        shift = 0 if zero_point is None else like_input(zero_point, x.shape, axis, block_size)
        return (quantized(values, shift, dtype, saturate=bool(saturate)),)


class DequantizeLinear(Operator):
    """DequantizeLinear as defined in https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html."""

    def compute(
        self,
        x: Array,
        scale: Array,
        zero_point: Array | None = None,
        axis: int = 1,
        block_size: int = 0,
        output_dtype: int = 0,
        **_: Any,
    ) -> tuple[Array]:
        """``x`` without the zero point, times the scale."""
        dtype = dtype_from_onnx(output_dtype) if output_dtype else scale.dtype
        shift = 0.0 if zero_point is None else like_input(zero_point, x.shape, axis, block_size).astype(np.float64)
        values = (x.astype(np.float64) - shift) * like_input(wide(scale), x.shape, axis, block_size)
        return (values.astype(dtype),)


class DynamicQuantizeLinear(Operator):
    """DynamicQuantizeLinear as defined in https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html."""

    def compute(self, x: Array, **_: Any) -> tuple[Array, Array, Array]:
        """The quantized values, their scale and their zero point."""
        codes, scale, zero_point = dynamically_quantized(wide(x))
        return codes, np.asarray(scale, x.dtype), zero_point


def like_input(values: Array, shape: tuple[int, ...], axis: int, block_size: int) -> Array:
    """Scales or zero points, broadcast to ``shape``: one for all, one an index of ``axis``, or one a block."""
    if values.ndim == 0 or (values.size == 1 and not block_size):
        return values.reshape(())
    axis %= len(shape)
    if block_size:
        return np.take(np.repeat(values, block_size, axis=axis), range(shape[axis]), axis=axis)
    return values.reshape([-1 if index == axis else 1 for index in range(len(shape))])


def quantized(values: Array, zero_point: Any, dtype: np.dtype[Any], *, saturate: bool = True) -> Array:
    """``values`` rounded to ``dtype`` with ``zero_point`` added; float8 saturates only if ``saturate``."""
    if _is_integer(dtype):
        limits: Any = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
        shifted = np.rint(values) + np.asarray(zero_point).astype(np.float64)
        codes: Array = np.nan_to_num(np.clip(shifted, float(limits.min), float(limits.max)))
        return codes.astype(np.int64).astype(dtype)
    if saturate:
        largest = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
        values = np.where(np.isnan(values), values, np.clip(values, -largest, largest))
    return values.astype(dtype)


def dynamically_quantized(values: Array) -> tuple[Array, float, Array]:
    """Codes in uint8, scale and zero point for values in float64, such that zero has a code of its own."""
    low, high = min(0.0, float(values.min(initial=0.0))), max(0.0, float(values.max(initial=0.0)))
    scale = (high - low) / 255 or 1.0
    zero_point = np.asarray(np.rint(np.clip(-low / scale, 0, 255)), np.uint8)
    return quantized(values / scale, zero_point, np.dtype(np.uint8)), scale, zero_point


def _is_integer(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" or dtype.name.startswith(("int", "uint"))


class CastLike(Operator):
    """CastLike as defined in https://onnx.ai/onnx/operators/onnx__CastLike.html."""

    def compute(self, x: Array, like: Array, **_: Any) -> tuple[Array]:
        """``x`` in the dtype of ``like``."""
        for values in (x, like):
            if values.dtype.kind not in "biu" and values.dtype.name not in FLOATS:
                raise NotImplementedError(f"CastLike of {x.dtype} to {like.dtype}")
        return (x.astype(like.dtype),)


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


class GatherElements(Operator):
    """GatherElements as defined in https://onnx.ai/onnx/operators/onnx__GatherElements.html."""

    def compute(self, data: Array, indices: Array, axis: int = 0, **_: Any) -> tuple[Array]:
        """For each index, the value of ``data`` there along ``axis``, at the index's own place along the others."""
        axis %= data.ndim
        reached = tuple(slice(None if at == axis else size) for at, size in enumerate(indices.shape))
        return (np.take_along_axis(data[reached], indices.astype(np.int64), axis),)


CONVERSION_OPERATORS: tuple[type[Operator], ...] = (
    *in_domains(QuantizeLinear, "", MICROSOFT),
    *in_domains(DequantizeLinear, "", MICROSOFT),
    DynamicQuantizeLinear,
    CastLike,
    OneHot,
    GatherElements,
)
