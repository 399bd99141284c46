"""ONNX Runtime's operators on quantized tensors: what the operator does to the dequantized values, quantized again.

Defined in https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.blame.operators import MICROSOFT, Array, Operator, wide
from harness.blame.operators.conversions import dynamically_quantized, like_input, quantized
from harness.blame.operators.normalization import softmax
from harness.blame.operators.pooling import AveragePool


def _dequantized(codes: Array, scale: Array, zero_point: Array | None, axis: int = 1) -> Array:
    shift = 0.0 if zero_point is None else like_input(zero_point, codes.shape, axis, 0).astype(np.float64)
    return (codes.astype(np.float64) - shift) * like_input(wide(scale), codes.shape, axis, 0)


def _quantized_like(values: Array, scale: Array, zero_point: Array | None, codes: Array) -> Array:
    """``values`` in the dtype of the zero point, or of ``codes`` where there is none."""
    dtype = codes.dtype if zero_point is None else zero_point.dtype
    shift = 0 if zero_point is None else zero_point.reshape(())
    return quantized(values / wide(scale).reshape(()), shift, dtype)


class QLinearAdd(Operator):
    """The sum of two quantized tensors."""

    op_domain = MICROSOFT

    def compute(self, *inputs: Array | None, **_: Any) -> tuple[Array]:
        """The quantized sum."""
        a, b, scale, zero_point, codes = _two_operands(inputs)
        return (_quantized_like(a + b, scale, zero_point, codes),)


class QLinearMul(Operator):
    """The product of two quantized tensors."""

    op_domain = MICROSOFT

    def compute(self, *inputs: Array | None, **_: Any) -> tuple[Array]:
        """The quantized product."""
        a, b, scale, zero_point, codes = _two_operands(inputs)
        return (_quantized_like(a * b, scale, zero_point, codes),)


def _two_operands(inputs: Sequence[Any]) -> tuple[Array, Array, Array, Array | None, Array]:
    a, a_scale, a_zero, b, b_scale, b_zero, scale, zero_point = (*inputs, None)[:8]
    return _dequantized(a, a_scale, a_zero), _dequantized(b, b_scale, b_zero), scale, zero_point, a


class _OneOperand(Operator):
    """A quantized tensor in, and one of another scale out."""

    op_domain = MICROSOFT

    def compute(
        self,
        x: Array,
        x_scale: Array,
        x_zero: Array | None,
        y_scale: Array,
        y_zero: Array | None = None,
        **attributes: Any,
    ) -> tuple[Array]:
        """The quantized answer."""
        return (_quantized_like(self.exact(_dequantized(x, x_scale, x_zero), **attributes), y_scale, y_zero, x),)

    def exact(self, values: Array, **attributes: Any) -> Array:
        """The answer for dequantized values."""
        raise NotImplementedError


class QLinearSigmoid(_OneOperand):
    """Sigmoid."""

    def exact(self, values: Array, **_: Any) -> Array:
        """1 / (1 + exp(-x))."""
        return 1 / (1 + np.exp(-values))


class QLinearLeakyRelu(_OneOperand):
    """LeakyRelu."""

    def exact(self, values: Array, alpha: float = 0.01, **_: Any) -> Array:
        """The values, the negative ones times alpha."""
        return np.where(values < 0, alpha * values, values)


class QLinearSoftmax(_OneOperand):
    """Softmax, as of the opset in its own attribute."""

    def exact(self, values: Array, axis: int = -1, opset: int = 13, **_: Any) -> Array:
        """The normalised exponentials."""
        if opset < 13:
            rows = values.reshape(int(np.prod(values.shape[: axis % values.ndim])), -1)
            return softmax(rows).reshape(values.shape)
        return np.moveaxis(softmax(np.moveaxis(values, axis, -1)), -1, axis)


class QLinearGlobalAveragePool(_OneOperand):
    """The mean of each plane."""

    def exact(self, values: Array, channels_last: int = 0, **_: Any) -> Array:
        """The means."""
        axes = range(1, values.ndim - 1) if channels_last else range(2, values.ndim)
        means: Array = values.mean(axis=tuple(axes), keepdims=True)
        return means


class QLinearAveragePool(_OneOperand):
    """The mean of each window."""

    def exact(self, values: Array, channels_last: int = 0, **attributes: Any) -> Array:
        """The means."""
        channels_first = np.moveaxis(values, -1, 1) if channels_last else values
        means: Array = AveragePool.means(channels_first, attributes)
        return np.moveaxis(means, 1, -1) if channels_last else means


class QLinearConcat(Operator):
    """Quantized tensors of different scales, one after the other."""

    op_domain = MICROSOFT

    def compute(self, y_scale: Array, y_zero: Array, *parts: Array, axis: int = 0, **_: Any) -> tuple[Array]:
        """The tensors in the scale of the output."""
        triples = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
        joined = np.concatenate([_dequantized(*triple) for triple in triples], axis=axis)
        return (_quantized_like(joined, y_scale, y_zero, parts[0]),)


class QGemm(Operator):
    """Gemm of quantized matrices; the answer is quantized where an output scale is given."""

    op_domain = MICROSOFT

    def compute(
        self,
        a: Array,
        a_scale: Array,
        a_zero: Array,
        b: Array,
        b_scale: Array,
        b_zero: Array,
        c: Array | None = None,
        y_scale: Array | None = None,
        y_zero: Array | None = None,
        alpha: float = 1.0,
        transA: int = 0,  # noqa: N803 - ONNX's name
        transB: int = 0,  # noqa: N803
        **_: Any,
    ) -> tuple[Array]:
        """The product, with ``c`` in units of both scales."""
        columns = 0 if transB else 1
        first, second = _dequantized(a, a_scale, a_zero), _dequantized(b, b_scale, b_zero, columns)
        product = (first.T if transA else first) @ (second.T if transB else second)
        if c is not None:
            product = product + c * wide(a_scale) * wide(b_scale)
        if y_scale is None:
            return ((alpha * product).astype(a_scale.dtype),)
        return (_quantized_like(alpha * product, y_scale, y_zero, a),)


class DynamicQuantizeMatMul(Operator):
    """A matrix product whose first factor is quantized on the way."""

    op_domain = MICROSOFT

    def compute(
        self, a: Array, b: Array, b_scale: Array, b_zero: Array | None = None, bias: Array | None = None, **_: Any
    ) -> tuple[Array]:
        """The product of the quantized factors, plus the bias."""
        codes, scale, zero_point = dynamically_quantized(wide(a))
        product = _dequantized(codes, np.asarray(scale), zero_point) @ _dequantized(b, b_scale, b_zero, b.ndim - 1)
        return ((product + (0.0 if bias is None else wide(bias))).astype(a.dtype),)


class MatMulIntegerToFloat(Operator):
    """The product of two quantized matrices, in floating point."""

    op_domain = MICROSOFT

    def compute(
        self,
        a: Array,
        b: Array,
        a_scale: Array,
        b_scale: Array,
        a_zero: Array | None = None,
        b_zero: Array | None = None,
        bias: Array | None = None,
        **_: Any,
    ) -> tuple[Array]:
        """The product of the dequantized factors, plus the bias."""
        product = _dequantized(a, a_scale, a_zero, a.ndim - 2) @ _dequantized(b, b_scale, b_zero, b.ndim - 1)
        return ((product + (0.0 if bias is None else wide(bias))).astype(a_scale.dtype),)


class MatMulNBits(Operator):
    """A matrix product whose second factor is kept in a few bits, in blocks along its rows."""

    op_domain = MICROSOFT

    def compute(
        self,
        a: Array,
        b: Array,
        scales: Array,
        zero_points: Array | None = None,
        g_idx: Array | None = None,
        bias: Array | None = None,
        K: int = 0,  # noqa: N803 - ONNX Runtime's name
        N: int = 0,  # noqa: N803
        bits: int = 4,
        block_size: int = 32,
        weight_prepacked: int = 0,
        **_: Any,
    ) -> tuple[Array]:
        """The product with the unpacked weights, plus the bias."""
        if g_idx is not None or weight_prepacked:
            raise NotImplementedError("MatMulNBits with g_idx or prepacked weights")
        blocks = -(-K // block_size)
        codes = _unpacked(b.reshape(N, blocks, -1), bits)[..., :block_size].astype(np.float64)
        if zero_points is None:
            shift: Any = float(2 ** (bits - 1))
        elif zero_points.dtype == np.uint8:
            shift = _unpacked(zero_points.reshape(N, -1), bits)[:, :blocks, None].astype(np.float64)
        else:
            shift = wide(zero_points).reshape(N, blocks, 1)
        weights = ((codes - shift) * wide(scales).reshape(N, blocks, 1)).reshape(N, -1)[:, :K]
        product = wide(a) @ weights.T
        return ((product + (0.0 if bias is None else wide(bias))).astype(a.dtype),)


def _unpacked(packed: Array, bits: int) -> Array:
    """The codes in the bytes of the last axis, lowest bits first."""
    if bits not in {2, 4, 8}:
        raise NotImplementedError(f"MatMulNBits with {bits} bits")
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = packed[..., None] >> shifts & np.uint8(2**bits - 1)
    return codes.reshape(*packed.shape[:-1], -1)


MICROSOFT_QUANTIZED_OPERATORS = (
    QLinearAdd,
    QLinearMul,
    QLinearSigmoid,
    QLinearLeakyRelu,
    QLinearSoftmax,
    QLinearGlobalAveragePool,
    QLinearAveragePool,
    QLinearConcat,
    QGemm,
    DynamicQuantizeMatMul,
    MatMulIntegerToFloat,
    MatMulNBits,
)
