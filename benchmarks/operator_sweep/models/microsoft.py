"""ONNX Runtime's own operators."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from benchmarks.operator_sweep.models.case import Array, Case, Cases, case, integers, normal

DOMAIN = "com.microsoft"
VALUES = normal(1, 2, 3, 8)


def microsoft_cases() -> Cases:
    """Every family in this file."""
    yield from _fused()
    yield from _normalizations()
    yield from _attention()
    yield from _quantized()
    yield from _matrices()


def _own(name: str, operator: str, inputs: list[Any], outputs: int = 1, **attributes: Any) -> Case:
    return case(name, operator, inputs, 1, domain=DOMAIN, outputs=outputs, **attributes)


def _fused() -> Cases:
    bias = normal(2, 8)
    yield _own("gelu", "Gelu", [VALUES])
    yield _own("biasgelu", "BiasGelu", [VALUES, bias])
    yield _own("fastgelu", "FastGelu", [VALUES])
    yield _own("fastgelu-bias", "FastGelu", [VALUES, bias])
    yield _own("quickgelu", "QuickGelu", [VALUES], alpha=1.5)
    a, b = normal(1, 2, 3, 4), normal(2, 2, 4, 5)
    yield _own("fusedmatmul", "FusedMatMul", [a, b], alpha=0.7)
    yield _own(
        "fusedmatmul-transposed", "FusedMatMul", [a.swapaxes(1, 2).copy(), b.swapaxes(1, 2).copy()], transA=1, transB=1
    )
    yield _own(
        "fusedmatmul-batch", "FusedMatMul", [normal(1, 3, 2, 4), normal(2, 4, 2, 5)], transBatchA=1, transBatchB=1
    )
    yield _own("transposematmul", "TransposeMatMul", [a.swapaxes(1, 2).copy(), b], transA=1)
    for activation in ("Relu", "LeakyRelu", "Sigmoid", "Tanh"):
        extra: dict[str, Any] = {"activation_alpha": 0.2} if activation == "LeakyRelu" else {}
        yield _own(f"fusedgemm-{activation}", "FusedGemm", [a[0], b[0], normal(3, 5)], activation=activation, **extra)


def _normalizations() -> Cases:
    skip, gamma, beta, bias = normal(2, 2, 3, 8), normal(3, 8), normal(4, 8), normal(5, 8)
    yield _own("skip", "SkipLayerNormalization", [VALUES, skip, gamma, beta], epsilon=1e-5)
    everything = [VALUES, skip, gamma, beta, bias]
    yield case("skip-bias", "SkipLayerNormalization", everything, 1, domain=DOMAIN, outputs=1, epsilon=1e-3)
    yield _own("skip-simplified", "SkipSimplifiedLayerNormalization", [VALUES, skip, gamma], epsilon=1e-5)
    yield _own("skip-simplified-bias", "SkipSimplifiedLayerNormalization", [VALUES, skip, gamma, bias], epsilon=1e-3)
    for axis in (-1, 1):
        scale = normal(3, *VALUES.shape[axis:])
        yield case(f"simplified{axis}", "SimplifiedLayerNormalization", [VALUES, scale], 17, axis=axis, epsilon=1e-3)
    words, positions, segments = normal(1, 11, 8), normal(2, 7, 8), normal(3, 2, 8)
    ids, kinds = integers(4, 0, 11, 2, 3, dtype=np.int32), integers(5, 0, 2, 2, 3, dtype=np.int32)
    mask = np.array([[1, 1, 0], [1, 1, 1]], np.int32)
    embeddings = [ids, kinds, words, positions, segments, gamma, beta, mask]
    yield _own("embed", "EmbedLayerNormalization", embeddings, outputs=2)
    without = [ids, None, words, positions, None, gamma, beta]
    yield _own("embed-no-segments", "EmbedLayerNormalization", without, outputs=2)


def _attention() -> Cases:
    x, weights, bias = normal(1, 2, 5, 8), normal(2, 8, 24) / 3, normal(3, 24)
    kept = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    yield _own("attention", "Attention", [x, weights, bias], num_heads=2)
    yield _own("attention-causal", "Attention", [x, weights, bias], num_heads=2, unidirectional=1)
    yield _own("attention-mask", "Attention", [x, weights, bias, kept], num_heads=2)
    yield _own("attention-lengths", "Attention", [x, weights, bias, np.array([3, 5], np.int32)], num_heads=4)
    yield _own("attention-bias", "Attention", [x, weights, bias, None, None, normal(4, 2, 2, 5, 5)], num_heads=2)
    yield _own("attention-scale", "Attention", [x, weights, bias], num_heads=2, scale=0.3)
    uneven = [x, normal(2, 8, 4 + 4 + 6), normal(3, 14)]
    yield _own("attention-uneven", "Attention", uneven, num_heads=2, qkv_hidden_sizes=[4, 4, 6])
    query, key, value = normal(1, 2, 3, 8), normal(2, 2, 5, 8), normal(3, 2, 5, 8)
    yield _own("multihead", "MultiHeadAttention", [query, key, value], num_heads=2)
    yield _own("multihead-bias", "MultiHeadAttention", [query, key, value, bias], num_heads=4)
    yield _own("multihead-mask", "MultiHeadAttention", [query, key, value, None, kept], num_heads=2)
    added = [query, key, value, None, None, normal(4, 2, 2, 3, 5)]
    yield _own("multihead-added", "MultiHeadAttention", added, num_heads=2, scale=0.4)


def _quantized() -> Cases:
    for dtype in (np.uint8, np.int8):
        name = str(np.dtype(dtype))
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        a, b = (integers(seed, low, high, 2, 3, 4, 4, dtype=dtype) for seed in (1, 2))
        zero, other = _zero(dtype, 20), _zero(dtype, 5)
        operands = [a, _scale(0.03), zero, b, _scale(0.05), other]
        yield _own(f"qlinearadd-{name}", "QLinearAdd", [*operands, _scale(0.08), zero])
        yield _own(f"qlinearmul-{name}", "QLinearMul", [*operands, _scale(0.2), zero])
        single = [a, _scale(0.03), zero, _scale(0.011), other]
        yield _own(f"qlinearsigmoid-{name}", "QLinearSigmoid", single)
        yield _own(f"qlinearleakyrelu-{name}", "QLinearLeakyRelu", single, alpha=0.2)
        yield _own(f"qlinearglobalaveragepool-{name}", "QLinearGlobalAveragePool", single, channels_last=0)
        pool: dict[str, Any] = {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1]}
        yield _own(f"qlinearaveragepool-{name}", "QLinearAveragePool", single, **pool)
        softmax = _own(
            f"qlinearsoftmax-{name}", "QLinearSoftmax", [*single[:3], _scale(1 / 256), _zero(dtype, low)], axis=-1
        )
        softmax.node.attribute.append(helper.make_attribute("opset", 13))
        yield softmax
        parts = [_scale(0.06), zero, a, _scale(0.03), zero, b, _scale(0.05), other]
        yield _own(f"qlinearconcat-{name}", "QLinearConcat", parts, axis=1)
    a, b = integers(1, 0, 255, 3, 4, dtype=np.uint8), integers(2, 0, 255, 4, 5, dtype=np.uint8)
    zero, c = _zero(np.uint8, 120), integers(3, -999, 999, 5, dtype=np.int32)
    factors = [a, _scale(0.02), zero, b, _scale(0.03), zero]
    yield _own("qgemm", "QGemm", [*factors, c, _scale(0.1), zero], alpha=1.0)
    yield _own("qgemm-float", "QGemm", [*factors, c], alpha=1.0)
    signed = integers(4, -127, 127, 5, 4, dtype=np.int8)
    scales, zeros = np.linspace(0.01, 0.05, 5, dtype=np.float32), np.zeros(5, np.int8)
    per_column = [a, _scale(0.02), zero, signed, scales, zeros, c, _scale(0.1), zero]
    yield _own("qgemm-columns", "QGemm", per_column, transB=1, alpha=1.0)
    yield _own(
        "matmulintegertofloat", "MatMulIntegerToFloat", [a, b, _scale(0.02), _scale(0.03), zero, zero, normal(5, 5)]
    )
    dynamic = [normal(1, 3, 4), b, _scale(0.03), zero, normal(5, 5)]
    yield _own("dynamicquantizematmul", "DynamicQuantizeMatMul", dynamic)
    values = normal(6, 3, 4) * 30
    yield _own("quantizelinear", "QuantizeLinear", [values, _scale(0.7), zero])
    yield _own("dequantizelinear", "DequantizeLinear", [a, _scale(0.7), zero])


def _matrices() -> Cases:
    for bits in (4, 8):
        for columns, rows, block in ((32, 6, 16), (40, 5, 32)):
            blocks, size = -(-columns // block), block * bits // 8
            a = normal(1, 3, columns)
            b = integers(2, 0, 256, rows, blocks, size, dtype=np.uint8)
            scales = np.abs(normal(3, rows * blocks)) + np.float32(0.1)
            zeros = integers(4, 0, 256, rows * -(-blocks * bits // 8), dtype=np.uint8)
            shape: dict[str, Any] = {"K": columns, "N": rows, "bits": bits, "block_size": block}
            name = f"matmulnbits-{bits}-{columns}-{block}"
            yield _own(name, "MatMulNBits", [a, b, scales], **shape)
            yield _own(f"{name}-zeros", "MatMulNBits", [a, b, scales, zeros], **shape)
            biased = [a, b, scales, None, None, normal(5, rows)]
            yield _own(f"{name}-bias", "MatMulNBits", biased, **shape)


def _scale(value: float) -> Array:
    return np.array(value, np.float32)


def _zero(dtype: Any, value: int) -> Array:
    return np.array(value, dtype)
