"""Tolerances: wide enough for the installed kernels, narrow enough to detect errors just outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from harness.compare.calibrated import PLAIN_RULES
from harness.layers import SUMS_OF_PRODUCTS, Array, Call, composite_tolerance, default_tolerance, find
from harness.layers._tolerances import FloatFormat, compute_format, storage_format
from harness.spec.language.tolerances import Calibrated, Close, Exact, Scaled, Tolerance, Ulp
from tests.layers_strategies import layer

EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
LINEAR: dict[str, Any] = {"in_features": 16, "out_features": 4, "bias": True}


def rule(name: str | None, dtype: str = "float32", opset: int | None = None, **args: Any) -> Any:
    return default_tolerance(name, args, dtype, opset).rule


@pytest.mark.parametrize("opset", [None, 17, 23])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_layers_that_round_nothing_are_exact(dtype: str, opset: int | None) -> None:
    for name in ("MaxPool1d", "MaxPool2d", "MaxPool3d", "MaxUnpool2d", "ReLU", "PReLU", "Flatten", "Identity"):
        assert rule(name, dtype, opset) == Exact()


@pytest.mark.parametrize("name", ["LeakyReLU", "RReLU"])
def test_a_slope_is_exact_except_for_the_second_rounding_of_the_16_bit_dtypes(name: str) -> None:
    assert [rule(name, dtype) for dtype in EPS] == [Ulp(1), Ulp(1), Exact(), Exact()]


@pytest.mark.parametrize("slope", [0.01, 0.3, 11 / 48, -0.7])
def test_one_ulp_holds_for_every_float16(slope: float) -> None:
    x = np.arange(65536, dtype=np.uint32).astype(np.uint16).view(np.float16)
    x = x[np.isfinite(x)]
    eager = torch.nn.functional.leaky_relu(torch.from_numpy(x), slope).numpy()
    call = Call({"negative_slope": slope}, {}, [x.astype(np.float64)], dtype="float16")
    expected = layer("LeakyReLU").float64_reference(call).outputs[0].astype(np.float16)
    ulps = np.abs(ordered(eager) - ordered(expected))
    assert ulps.max() == 1


def ordered(x: Array) -> Array:
    bits = x.view(np.uint16).astype(np.int64)
    return np.where(bits >= 0x8000, 0x8000 - bits, bits)


def test_sums_are_scaled_and_grow_with_their_terms() -> None:
    assert rule("Linear", in_features=1, out_features=1, bias=False) == Scaled(2 + 1 / 6)
    assert rule("Linear", in_features=5, out_features=1, bias=True) == Scaled(3)
    assert rule("AvgPool2d", kernel_size=(2, 3)) == Scaled(3)
    assert rule("Conv2d", in_channels=4, groups=2, kernel_size=3, bias=False) == Scaled(5)
    assert rule("Bilinear", in1_features=2, in2_features=3, bias=False) == Scaled(3)
    assert 2 < rule("AvgPool2d", "float16", kernel_size=6).n < 2.01
    assert set(SUMS_OF_PRODUCTS) >= {"Conv1d", "Conv2d", "Conv3d", "ConvTranspose2d", "Bilinear"}


@pytest.mark.parametrize("fill", [0.1, 1 / 3, None])
@pytest.mark.parametrize("k", [2, 3, 7, 14, 56])
def test_eager_averages_are_within_the_tolerance_and_a_wrong_divisor_is_not(fill: float | None, k: int) -> None:
    x = np.random.default_rng(k).standard_normal((2, 2, 56, 56)) if fill is None else np.full((1, 1, 56, 56), fill)
    narrow = x.astype(np.float32)
    args = {"kernel_size": k}
    answer = layer("AvgPool2d").float64_reference(Call(args, {}, [narrow.astype(np.float64)]))
    eager = torch.nn.AvgPool2d(k)(torch.from_numpy(narrow)).numpy().astype(np.float64)
    allowed = rule("AvgPool2d", kernel_size=k).n * EPS["float32"] * answer.magnitudes[0]
    assert (np.abs(eager - answer.outputs[0]) <= allowed).all()
    if fill is not None:
        # A divisor larger by one is detected if the terms of the window do not cancel.
        assert (np.abs(eager * k * k / (k * k + 1) - answer.outputs[0]) > allowed).all()


@pytest.mark.parametrize("features", [1, 4, 84, 400])
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_eager_sums_are_within_the_tolerance(features: int, constant: bool, dtype: type[np.floating[Any]]) -> None:
    random = np.random.default_rng(features)
    x = (np.full((8, features), 0.7) if constant else random.uniform(0.5, 1, (8, features))).astype(dtype)
    weight = (np.full((16, features), 0.1) if constant else random.standard_normal((16, features))).astype(dtype)
    wide = Call({}, {"weight": weight.astype(np.longdouble)}, [x.astype(np.longdouble)])
    answer = layer("Linear").float64_reference(wide)
    eager = torch.nn.functional.linear(torch.from_numpy(x), torch.from_numpy(weight)).numpy()
    name = np.dtype(dtype).name
    n = rule("Linear", name, in_features=features, out_features=16, bias=False).n
    assert (np.abs(eager - answer.outputs[0]) <= n * EPS[name] * answer.magnitudes[0]).all()


def test_products_that_underflow_are_within_the_tolerance_and_a_wrong_sum_is_not() -> None:
    """Each product is a little more than half the smallest number, and is rounded up to it: the sum nearly doubles."""
    x, weight = (
        np.full((1, 51), -1.2405973600791167e-30, np.float32),
        np.full((1, 51), 6.790377385164016e-16, np.float32),
    )
    answer = layer("Linear").float64_reference(Call({}, {"weight": weight.astype(np.float64)}, [x.astype(np.float64)]))
    rounded = float(x[0, 0] * weight[0, 0]) * 51
    allowed = rule("Linear", in_features=51, out_features=1, bias=False).n * EPS["float32"] * answer.magnitudes[0]
    assert abs(rounded - answer.outputs[0]) > 0.6 * abs(answer.outputs[0])
    assert abs(rounded - answer.outputs[0]) <= allowed
    assert abs(4 * rounded - answer.outputs[0]) > allowed
    zero = layer("Linear").float64_reference(Call({}, {"weight": np.zeros((1, 51))}, [x.astype(np.float64)]))
    assert (zero.magnitudes[0] == 0).all(), "products with zero are exact"


def float32_range() -> Array:
    positive = np.concatenate([
        np.arange(0, 0x7F800000, 49999, dtype=np.uint32).view(np.float32),
        np.linspace(0, 110, 20001, dtype=np.float32),
    ])  # fmt: skip
    return np.concatenate([positive, -positive])


def onnx_kernel(op: str, x: Array) -> Array:
    """The output of ONNX Runtime's kernel on the CPU."""
    import onnxruntime
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"])],
        op,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def torch_kernel(op: str, x: Array) -> Array:
    return np.asarray(getattr(torch, op.lower())(torch.from_numpy(x)).numpy())


def outside(close: Close, actual: Array, expected: Array) -> Array:
    error = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    return np.asarray(error > close.atol + close.rtol * np.abs(expected.astype(np.float64)))


def first_outside(close: Close, x: Array, actual: Array, expected: Array) -> list[str]:
    """The first five values outside the tolerance, each as text."""
    indices = np.flatnonzero(outside(close, actual, expected))
    return [f"at x = {x[index]!r}: {actual[index]!r}, expected {expected[index]!r}" for index in indices[:5]]


@pytest.mark.parametrize("name", ["Sigmoid", "Tanh"])
@pytest.mark.parametrize(("kernel", "opset"), [(torch_kernel, None), (torch_kernel, 17), (onnx_kernel, 17)])
def test_the_kernels_are_within_the_tolerance_over_the_whole_range(
    name: str, kernel: Callable[[str, Array], Array], opset: int | None
) -> None:
    x = float32_range()
    close = rule(name, "float32", opset)
    expected = layer(name).float64_reference(Call({}, {}, [x.astype(np.float64)])).outputs[0]
    actual = kernel(name, x)
    assert first_outside(close, x, actual, expected) == []
    assert first_outside(close, x, actual, torch_kernel(name, x)) == []


@pytest.mark.parametrize("name", ["Sigmoid", "Tanh"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_number_of_the_16_bit_dtypes_is_within_the_tolerance(name: str, dtype: str) -> None:
    x = torch.arange(-32768, 32768).to(torch.int16).view(getattr(torch, dtype))
    x = x[x.isfinite()]
    expected = layer(name).float64_reference(Call({}, {}, [x.double().numpy()])).outputs[0]
    actual = getattr(torch, name.lower())(x).double().numpy()
    rounded = torch.from_numpy(expected).to(getattr(torch, dtype)).double().numpy()
    for opset in (None, 17):
        assert not outside(rule(name, dtype, opset), actual, rounded).any()


def test_the_rules_of_tanh_and_sigmoid_are_tighter_than_assert_close() -> None:
    general = PLAIN_RULES["float32"]
    for name, opset in (("Tanh", 17), ("Tanh", None), ("Sigmoid", 17), ("Sigmoid", None)):
        close = rule(name, "float32", opset)
        assert close.rtol < general.rtol
        assert close.atol < general.atol / 40


def test_an_error_just_outside_is_detected() -> None:
    x = np.linspace(-8, 8, 1001, dtype=np.float32)
    for name, ulps in (("Tanh", 13), ("Sigmoid", 13)):
        expected = torch_kernel(name, x[x != 0])
        wrong = expected + ulps * np.spacing(expected)
        assert outside(rule(name), wrong, expected).all()
    # For ONNX the Sigmoid's rule is absolute: it detects outputs flushed to zero that should be above 2 eps.
    tail = np.array([-15.0, -12.0, -9.0], dtype=np.float32)
    assert outside(rule("Sigmoid", "float32", 17), np.zeros(3), torch_kernel("Sigmoid", tail)).all()
    # Tanh's rule is relative down to the least normal number: a tiny value flushed to zero is detected.
    assert outside(rule("Tanh", "float32", 17), np.zeros(1), np.array([1e-37])).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_the_formats_are_those_of_the_dtypes(dtype: str) -> None:
    info = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    stored = storage_format(dtype)
    assert stored == FloatFormat(float(info.eps), float(info.smallest_normal), float(info.smallest_subnormal))
    computed = np.finfo("float64" if dtype == "float64" else "float32")
    assert compute_format(dtype).epsilon == float(computed.eps)
    assert storage_format("int64") == storage_format("float32")


def test_a_layer_without_a_file_is_calibrated() -> None:
    for dtype in ("float16", "bfloat16", "float32"):
        assert rule("GELU", dtype) == rule(None, dtype) == Calibrated()
    assert rule("GELU", "float64") == PLAIN_RULES["float64"]  # no more precise dtype is available for calibration
    for dtype in ("int8", "uint8", "int64", "bool"):
        assert rule("GELU", dtype) == Exact()
        assert rule("AvgPool2d", dtype, kernel_size=3) == Exact()
        assert rule("Linear", dtype, **LINEAR) == Exact()


def test_the_plain_rules_are_the_defaults_of_assert_close_of_the_installed_torch() -> None:
    from torch.testing._comparison import default_tolerances

    for dtype, close in PLAIN_RULES.items():
        assert (close.rtol, close.atol) == default_tolerances(getattr(torch, dtype))


def test_a_model_of_exact_layers_is_exact() -> None:
    parts: list[tuple[str, dict[str, Any]]] = [("MaxPool2d", {}), ("ReLU", {}), ("MaxUnpool2d", {}), ("Flatten", {})]
    assert composite_tolerance(parts, "float32", 17) == Tolerance(Exact())
    assert composite_tolerance([], "float32", 17) == Tolerance(Exact())


def test_a_model_of_layers_that_round_is_calibrated() -> None:
    linear: tuple[str, dict[str, Any]] = ("Linear", LINEAR)
    assert composite_tolerance([linear, ("ReLU", {})], "float32", 17) == Tolerance(Calibrated())
    assert composite_tolerance([linear, ("Tanh", {}), linear], "bfloat16", 17) == Tolerance(Calibrated())
    assert composite_tolerance([linear, ("ReLU", {})], "float64", 17) == Tolerance(PLAIN_RULES["float64"])


def test_a_layer_without_a_file_is_not_registered() -> None:
    assert find("GELU") is None
    assert layer("Tanh").name == "Tanh"
