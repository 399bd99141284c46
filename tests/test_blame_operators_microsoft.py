"""ONNX Runtime's contributed operators give hand-computed values."""

from __future__ import annotations

from math import erf, exp, sqrt, tanh
from pathlib import Path

import numpy as np
import pytest

from tests.operator_models import OneOperator, values


@pytest.fixture
def one(tmp_path: Path) -> OneOperator:
    return OneOperator(tmp_path)


def test_activations_of_onnx_runtime(one: OneOperator) -> None:
    probability, x = 0.5 * (1 + erf(1 / sqrt(2))), values(1)
    assert np.isclose(one.microsoft("Gelu", [x]).item(), probability, rtol=1e-15)
    assert np.isclose(one.in_float64("Gelu", [x], 20)[0].item(), probability, rtol=1e-15)
    assert np.isclose(one.microsoft("BiasGelu", [values(0.75), values(0.25)]).item(), probability, rtol=1e-15)
    by_tanh = 0.5 * (1 + tanh(sqrt(2 / np.pi) * 1.044715))
    assert np.isclose(one.microsoft("FastGelu", [x]).item(), by_tanh, rtol=1e-15)
    assert np.isclose(one.microsoft("FastGelu", [values(0.75), values(0.25)]).item(), by_tanh, rtol=1e-15)
    assert np.isclose(one.microsoft("QuickGelu", [x], alpha=2.0).item(), 1 / (1 + exp(-2)), rtol=1e-15)


def test_products_of_onnx_runtime(one: OneOperator) -> None:
    a, b = values([1, 2], [3, 4]), values([1, 0], [1, 1])
    assert one.microsoft("FusedMatMul", [a, b], alpha=0.5, transA=1).tolist() == [[2, 1.5], [3, 2]]
    assert one.microsoft("TransposeMatMul", [a, b], transB=1).tolist() == [[1, 3], [3, 7]]
    relu = one.microsoft("FusedGemm", [a, b, values(-5, -5)], activation="Relu")
    assert relu.tolist() == [[0, 0], [2, 0]]
    batch = one.microsoft("FusedMatMul", [a.reshape(2, 1, 2), b.reshape(1, 2, 2)], transBatchA=1)
    assert batch.tolist() == [[[3, 2], [7, 4]]]


def test_normalizations_of_onnx_runtime(one: OneOperator) -> None:
    x, skip, ones = values([[1, 2]]), values([[0, 1]]), values(1, 1)
    inputs = [x, skip, 2 * ones, ones]
    assert one.microsoft("SkipLayerNormalization", inputs, epsilon=0.0).tolist() == [[[-1, 3]]]
    inputs = [x, 2 * x, ones]
    assert np.allclose(one.microsoft("SkipSimplifiedLayerNormalization", inputs, epsilon=0.0), [[np.sqrt([0.4, 1.6])]])
    plain = one.in_float64("SimplifiedLayerNormalization", [x, ones], 17, epsilon=0.0)[0]
    assert np.allclose(plain, [[np.sqrt([0.4, 1.6])]], rtol=1e-15)
    table = values([1, 3], [5, 5])
    ids = np.array([[0]], np.int32)
    embedded = one.microsoft("EmbedLayerNormalization", [ids, None, table, table, None, ones, 0 * ones], outputs=2)
    assert np.allclose(embedded, [[[-1, 1]]])


def test_attention_of_onnx_runtime(one: OneOperator) -> None:
    """A zero query weights every key equally: the answer is the mean of the values that are not masked."""
    x = values([[1], [2], [6]])
    weights = values([0, 0, 1])
    assert one.microsoft("Attention", [x, weights], num_heads=1).ravel().tolist() == [3, 3, 3]
    causal = one.microsoft("Attention", [x, weights], num_heads=1, unidirectional=1)
    assert causal.ravel().tolist() == [1, 1.5, 3]
    for mask in ([[1, 1, 0]], [2]):
        masked = one.microsoft("Attention", [x, weights, None, np.array(mask, np.int32)], num_heads=1)
        assert masked.ravel().tolist() == [1.5, 1.5, 1.5]
    query = values([[0]])
    assert one.microsoft("MultiHeadAttention", [query, x, x], num_heads=1).ravel().tolist() == [3]


def test_few_bits_of_onnx_runtime(one: OneOperator) -> None:
    """Row 0 contains the codes 0..15 twice; the default zero point is 8."""
    codes = np.array([0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE] * 2, np.uint8).reshape(1, 1, 16)
    shape = {"K": 32, "N": 1, "bits": 4, "block_size": 32}
    x = np.zeros((1, 32), np.float32)
    x[0, 3], x[0, 16] = 1, 10
    assert one.microsoft("MatMulNBits", [x, codes, values(0.5)], **shape).item() == 0.5 * (3 - 8) + 10 * 0.5 * (0 - 8)
    zero = np.array([2], np.uint8)
    assert one.microsoft("MatMulNBits", [x, codes, values(0.5), zero], **shape).item() == 0.5 * (3 - 2) + 5 * (0 - 2)


def test_quantized_operators_of_onnx_runtime(one: OneOperator) -> None:
    codes, other = np.array([[[[10, 30]]]], np.uint8), np.array([[[[1, 2]]]], np.uint8)
    zero, none = np.array(10, np.uint8), np.array(0, np.uint8)
    half, unit = np.array(0.5, np.float32), np.array(1, np.float32)
    pair = [codes, half, zero, other, unit, none]  # 0 and 10; 1 and 2
    assert one.microsoft("QLinearAdd", [*pair, unit, none]).ravel().tolist() == [1, 12]
    assert one.microsoft("QLinearMul", [*pair, unit, zero]).ravel().tolist() == [10, 30]
    single = [codes, half, zero, np.array(1 / 256, np.float32), none]
    assert one.microsoft("QLinearSigmoid", single).ravel().tolist() == [128, 255]
    single = [codes, half, zero, unit, np.array(1, np.uint8)]
    assert one.microsoft("QLinearLeakyRelu", single, alpha=0.5).ravel().tolist() == [1, 11]
    assert one.microsoft("QLinearGlobalAveragePool", single).ravel().tolist() == [6]
    assert one.microsoft("QLinearAveragePool", single, kernel_shape=[1, 2]).ravel().tolist() == [6]
    joined = one.microsoft("QLinearConcat", [unit, none, *pair], axis=3)
    assert joined.ravel().tolist() == [0, 10, 1, 2]
    equal = [other * 0, unit, none, np.array(1 / 256, np.float32), none]
    assert one.microsoft("QLinearSoftmax", equal, axis=-1).ravel().tolist() == [128, 128]


def test_quantized_products_of_onnx_runtime(one: OneOperator) -> None:
    a, b = np.array([[3, 5]], np.uint8), np.array([[1], [2]], np.uint8)
    one_, half, none = np.array(1, np.uint8), np.array(0.5, np.float32), np.array(0, np.uint8)
    factors = [a, half, one_, b, half, none]  # (1, 2) times (0.5, 1)
    assert one.microsoft("QGemm", [*factors, np.array([[4]], np.int32)]).item() == 2.5 + 4 / 4
    assert one.microsoft("QGemm", [*factors, None, half, one_]).item() == 6
    product = one.microsoft("MatMulIntegerToFloat", [a, b, half, half, one_, none, values(1)])
    assert product.item() == 3.5
    dynamic = one.microsoft("DynamicQuantizeMatMul", [values([0, 255]), b, half, none, values(1)])
    assert dynamic.item() == 256
