"""Normalizations, softmaxes, quantization, indexing and products."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from benchmarks.operator_sweep.models.case import Array, Cases, case, integers, normal

VALUES = normal(1, 2, 3, 4, 5)


def dense_cases() -> Cases:
    """Every family in this file."""
    yield from _normalizations()
    yield from _softmaxes()
    yield from _quantizations()
    yield from _indexing()
    yield from _products()


def _normalizations() -> Cases:
    channels = [normal(seed, 3) for seed in (2, 3, 4)]
    for values in (normal(1, 4, 3), normal(1, 2, 3, 5), VALUES, normal(1, 2, 3, 2, 2, 2)):
        inputs = [values, *channels, np.abs(normal(5, 3))]
        yield case(f"batchnormalization-{values.ndim}", "BatchNormalization", inputs, 15, epsilon=1e-3)
    training = [VALUES, *channels, np.abs(normal(5, 3))]
    yield case("batchnormalization-training", "BatchNormalization", training, 15, outputs=3, training_mode=1)
    yield case("instancenormalization", "InstanceNormalization", [VALUES, *channels[:2]], 22)
    for axis in (-1, 1, 2):
        scale, bias = normal(2, *VALUES.shape[axis:]), normal(3, *VALUES.shape[axis:])
        name = f"layernormalization{axis}"
        yield case(name, "LayerNormalization", [VALUES, scale, bias], 17, outputs=3, axis=axis, epsilon=1e-3)
        yield case(f"rmsnormalization{axis}", "RMSNormalization", [VALUES, scale], 23, axis=axis)
    large = (normal(1, 2, 8) * 3000).astype(np.float16)
    for operator, opset in (("LayerNormalization", 17), ("RMSNormalization", 23)):
        yield case(f"{operator.lower()}-large-float16", operator, [large, np.ones(8, np.float16)], opset)
    wide = normal(1, 2, 6, 3, 3)
    yield case("groupnormalization", "GroupNormalization", [wide, normal(2, 6), normal(3, 6)], 21, num_groups=3)
    for values, size in ((normal(1, 2, 7, 3, 3), 3), (normal(1, 5, 2, 3, 3), 5), (normal(1, 1, 6, 2, 2), 4)):
        name = f"lrn-{values.shape[1]}-{size}"
        yield case(name, "LRN", [values], 13, size=size, alpha=0.3, beta=0.6, bias=1.5)
    for p in (1, 2):
        yield case(f"lpnormalization-{p}", "LpNormalization", [VALUES], 22, axis=1, p=p)
    yield case("meanvariance", "MeanVarianceNormalization", [VALUES], 13, axes=[0, 2, 3])


def _softmaxes() -> Cases:
    for operator in ("Softmax", "LogSoftmax", "Hardmax"):
        yield case(f"{operator.lower()}-default", operator, [VALUES], 13)
        for axis in (0, 1, 2, -1):
            yield case(f"{operator.lower()}-{axis}", operator, [VALUES], 13, axis=axis)
        yield case(f"{operator.lower()}-classifier", operator, [normal(1, 1, 10, 1, 1)], 13, axis=1)


def _quantizations() -> Cases:
    values = normal(1, 3, 4, 5) * 40
    for dtype in (np.int8, np.uint8):
        scalar, zero = np.float32(0.7) * np.ones((), np.float32), np.ones((), dtype) * dtype(3)
        codes = integers(2, np.iinfo(dtype).min, np.iinfo(dtype).max, 3, 4, 5, dtype=dtype)
        yield case(f"quantize-{np.dtype(dtype)}", "QuantizeLinear", [values, scalar, zero], 21)
        yield case(f"dequantize-{np.dtype(dtype)}", "DequantizeLinear", [codes, scalar, zero], 21)
        for axis in (0, 1, -1):
            length = values.shape[axis]
            scales = np.linspace(0.3, 2, length, dtype=np.float32)
            zeros = np.arange(length).astype(dtype)
            name = f"{np.dtype(dtype)}-axis{axis}"
            yield case(f"quantize-{name}", "QuantizeLinear", [values, scales, zeros], 21, axis=axis)
            yield case(f"dequantize-{name}", "DequantizeLinear", [codes, scales, zeros], 21, axis=axis)
        blocks = np.abs(normal(3, 3, 2, 5)) + 0.2
        zeros = integers(4, 0, 9, 3, 2, 5, dtype=dtype)
        for operator, x in (("QuantizeLinear", values), ("DequantizeLinear", codes)):
            name = f"{operator.lower()}-{np.dtype(dtype)}-blocks"
            yield case(name, operator, [x, blocks, zeros], 21, axis=1, block_size=2)
    yield case("quantize-no-zero", "QuantizeLinear", [values, np.float32(0.7) * np.ones((), np.float32)], 21)
    wide = integers(5, -(2**20), 2**20, 3, 4, dtype=np.int32)
    yield case("dequantize-int32", "DequantizeLinear", [wide, np.float32(0.01) * np.ones((), np.float32)], 21)
    yield case("quantize-dynamic", "DynamicQuantizeLinear", [values], 11, outputs=3)
    a, b = integers(1, 0, 255, 3, 4, dtype=np.uint8), integers(2, 0, 255, 4, 5, dtype=np.uint8)
    one, zero = np.ones((), np.float32), np.full((), 120, np.uint8)
    quantized: list[Array | None] = [a, 0.02 * one, zero, b, 0.03 * one, zero, 0.1 * one, zero]
    yield case("qlinearmatmul", "QLinearMatMul", [_float32(each) for each in quantized], 21)
    image, filters = integers(1, 0, 255, 1, 3, 5, 5, dtype=np.uint8), integers(2, 0, 255, 2, 3, 3, 3, dtype=np.uint8)
    convolved: list[Array | None] = [image, 0.02 * one, zero, filters, 0.03 * one, zero, 0.3 * one, zero]
    yield case("qlinearconv", "QLinearConv", [_float32(each) for each in convolved], 10, pads=[1] * 4)
    yield case("matmulinteger", "MatMulInteger", [a, b, zero, zero], 10, outputs=1)


def _float32(values: Any) -> Any:
    return np.asarray(values, np.float32) if values.dtype.kind == "f" else values


def _indexing() -> Cases:
    indices, pair = integers(1, 0, 6, 2, 3), np.array([0.5, 2.5], np.float32)
    for name, depth in (("scalar", np.array(6)), ("vector", np.array([6]))):
        for axis in (-1, 0, 1):
            yield case(f"onehot-{name}-{axis}", "OneHot", [indices, depth, pair], 11, constants=[1], axis=axis)
    yield case("onehot-negative", "OneHot", [indices - 3, np.array([6]), pair], 11, constants=[1])
    data = normal(1, 4, 5, 6)
    yield case("gather-negative", "Gather", [data, integers(2, -5, 5, 2, 3)], 13, axis=1)
    yield case("scatternd-add", "ScatterND", [data, integers(2, 0, 4, 3, 1), normal(3, 3, 5, 6)], 18, reduction="add")
    yield case("cumsum-reverse", "CumSum", [data, np.array(1)], 14, constants=[1], exclusive=1, reverse=1)
    yield case("topk-smallest", "TopK", [data, np.array([3])], 24, outputs=2, constants=[1], axis=1, largest=0)
    empty = np.zeros(0, np.int64)
    yield case("expand", "Expand", [normal(1, 3, 1), np.array([2, 1, 4])], 13, constants=[1])
    yield case("constantofshape", "ConstantOfShape", [np.array([2, 3])], 9)
    yield case("constantofshape-empty", "ConstantOfShape", [empty], 9)
    yield case("reshape-zero", "Reshape", [data, np.array([0, -1])], 14, constants=[1])
    yield case("castlike", "CastLike", [data * 9, np.ones(1, np.int32)], 15)
    yield case("cast-int", "Cast", [data * 9], 13, to=TensorProto.INT32)


def _products() -> Cases:
    a, b, c = normal(1, 3, 4), normal(2, 4, 5), normal(3, 5)
    yield case("gemm", "Gemm", [a, b, c], 13, alpha=0.5, beta=2.0)
    yield case("gemm-transposed", "Gemm", [a.T.copy(), b.T.copy()], 13, transA=1, transB=1)
    for left, right in (((4,), (4,)), ((2, 3, 4), (4,)), ((4,), (2, 4, 5)), ((2, 1, 3, 4), (3, 4, 5))):
        yield case(f"matmul-{len(left)}-{len(right)}", "MatMul", [normal(1, *left), normal(2, *right)], 13)
    yield case("einsum", "Einsum", [normal(1, 2, 3, 4), normal(2, 4, 3)], 12, equation="bij,jk->bik")
    for approximate in ("none", "tanh"):
        yield case(f"gelu-{approximate}", "Gelu", [VALUES], 20, approximate=approximate)
