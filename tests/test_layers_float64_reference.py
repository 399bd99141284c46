"""Each layer's float64 reference, compared with eager torch in float64 and with values computed by hand."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.layers import Array, Call
from harness.spec.language.tolerances import Close, Exact, Scaled
from tests.layers_strategies import ALL, INF, NAN, calls, eager, layer, same

EPS = 2.0**-52


def pool(x: Any, **args: Any) -> Call:
    return Call(args, {}, [np.asarray(x)], dtype="float64")


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=50)
@given(data=st.data())
def test_eager_torch_agrees_with_the_float64_reference(name: str, data: st.DataObject) -> None:
    call = data.draw(calls(name))
    answer = layer(name).float64_reference(call)
    outputs = eager(name, call.args, call)
    assert len(answer.outputs) == len(outputs) == len(answer.magnitudes) == len(answer.undefined)
    for expected, actual, magnitude, undefined in zip(
        answer.outputs, outputs, answer.magnitudes, answer.undefined, strict=True
    ):
        assert expected.shape == actual.shape
        assert expected.dtype == actual.dtype
        defined = np.ones(expected.shape, bool) if undefined is None else ~undefined
        rule = layer(name).tolerance(call.args, "float64", None).rule
        assert within(rule, actual[defined], expected[defined], None if magnitude is None else magnitude[defined])


def within(rule: Any, actual: Array, expected: Array, magnitude: Array | None) -> bool:
    finite = np.isfinite(expected)
    if isinstance(rule, Exact) or not finite.all():
        if not same(actual[~finite], expected[~finite]):
            return False
        if isinstance(rule, Exact):
            return same(actual, expected)
    error = np.abs(actual[finite] - expected[finite])
    match rule:
        case Close(rtol, atol):
            return bool((error <= atol + rtol * np.abs(expected[finite])).all())
        case Scaled(n):
            assert magnitude is not None
            return bool((error <= n * (EPS * magnitude[finite] + 2.0**-1074)).all())
        case _:
            raise AssertionError(rule)


@pytest.mark.parametrize(
    ("x", "value", "index"),
    [
        ([1, 1, 0, 1], 1, 0),  # the first of equal maxima
        ([NAN, 1, NAN, 3], NAN, 2),  # but the last NaN
        ([-INF, -INF, -INF, -INF], -INF, 0),
        ([0, 5, 5, INF], INF, 3),
    ],
)
def test_the_index_of_a_maximum(x: list[float], value: float, index: int) -> None:
    args = {"kernel_size": (1, 4), "return_indices": True}
    values, indices = layer("MaxPool2d").float64_reference(pool([[x]], **args)).outputs
    np.testing.assert_array_equal(values, [[[value]]])
    assert indices.tolist() == [[[index]]]


def test_padding_never_wins_against_minus_infinity() -> None:
    call = pool([[[-INF, -INF]]], kernel_size=(1, 2), padding=(0, 1), return_indices=True)
    values, indices = layer("MaxPool2d").float64_reference(call).outputs
    assert values.tolist() == [[[-INF, -INF]]]
    assert indices.tolist() == [[[0, 1]]]


def test_a_window_wholly_in_padding_is_undefined() -> None:
    answer = layer("MaxPool2d").float64_reference(
        pool([[[5.0]]], kernel_size=2, padding=1, dilation=2, return_indices=True)
    )
    assert [mask.tolist() for mask in answer.undefined] == [[[[True]]], [[[True]]]]
    answer = layer("MaxPool2d").float64_reference(pool([[[5.0]]], kernel_size=1))
    assert answer.undefined == (None,)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64])
def test_integers_are_pooled_as_integers(dtype: type[np.integer[Any]]) -> None:
    least = np.iinfo(dtype).min
    x = np.array([[[least, least], [3, 3]]], dtype)
    values, indices = (
        layer("MaxPool2d").float64_reference(pool(x, kernel_size=2, padding=1, return_indices=True)).outputs
    )
    expected, expected_indices = torch.nn.MaxPool2d(2, padding=1, return_indices=True)(torch.from_numpy(x))
    assert values.dtype == dtype
    assert same(values, expected.numpy())
    assert same(indices, expected_indices.numpy())


def test_integer_averages_truncate_towards_zero() -> None:
    x = -np.arange(16).reshape(1, 4, 4)
    (average,) = layer("AvgPool2d").float64_reference(pool(x, kernel_size=2, padding=1)).outputs
    assert same(average, torch.nn.AvgPool2d(2, padding=1)(torch.from_numpy(x)).numpy())


def test_four_ones_over_three() -> None:
    call = pool(np.ones((1, 1, 4, 4)), kernel_size=(2, 2), stride=(2, 2), divisor_override=3)
    answer = layer("AvgPool2d").float64_reference(call)
    assert answer.outputs[0].tolist() == [[[[4 / 3] * 2] * 2]]
    assert answer.magnitudes[0].tolist() == [[[[4 / 3] * 2] * 2]]


def test_the_divisor_counts_no_position_beyond_the_padding() -> None:
    # 3x3 windows of stride 2 over ones, padded to 6x6: the last window extends beyond it by one row and one column.
    call = pool(np.ones((1, 4, 4)), kernel_size=3, stride=2, padding=1, ceil_mode=True)
    (average,) = layer("AvgPool2d").float64_reference(call).outputs
    np.testing.assert_allclose(average[0], [[4 / 9, 6 / 9, 2 / 6], [6 / 9, 1, 3 / 6], [2 / 6, 3 / 6, 1 / 4]])


def test_magnitudes_do_not_cancel() -> None:
    answer = layer("AvgPool2d").float64_reference(pool([[[1.0, -1.0]]], kernel_size=(1, 2)))
    assert answer.outputs[0].item() == 0
    assert answer.magnitudes[0].item() == 1


def test_a_divisor_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="divisor_override is 0"):
        layer("AvgPool2d").float64_reference(pool(np.ones((1, 2, 2)), kernel_size=2, divisor_override=0))


def test_linear_of_the_notes() -> None:
    weight = np.array([[1.0] * 3, [2.0] * 3, [3.0] * 3, [4.0] * 3])
    args = {"in_features": 3, "out_features": 4, "bias": True}
    call = Call(args, {"weight": weight, "bias": np.full(4, 0.5)}, [np.array([[1.0, 2.0, 3.0]])])
    assert layer("Linear").float64_reference(call).outputs[0].tolist() == [[6.5, 12.5, 18.5, 24.5]]
    negative = Call(args, {"weight": -weight, "bias": np.full(4, 0.5)}, call.inputs)
    assert layer("Linear").float64_reference(negative).magnitudes[0].tolist() == [[6.5, 12.5, 18.5, 24.5]]


def unpool(values: Any, indices: Any, forward: dict[str, Any] | None = None, **args: Any) -> Call:
    return Call(args, {}, [np.asarray(values), np.asarray(indices)], forward=forward or {}, dtype="float64")


def test_values_are_put_at_their_indices() -> None:
    call = unpool([[[3.0, 7.0]]], [[[1, 6]]], kernel_size=2)
    assert layer("MaxUnpool2d").float64_reference(call).outputs[0].tolist() == [[[0, 3, 0, 0], [0, 0, 7, 0]]]


def test_an_element_written_twice_is_undefined_unless_the_values_are_equal() -> None:
    equal_values = layer("MaxUnpool2d").float64_reference(unpool([[[3.0, 3.0]]], [[[1, 1]]], kernel_size=2))
    assert equal_values.undefined == (None,)
    different_values = layer("MaxUnpool2d").float64_reference(unpool([[[3.0, 4.0]]], [[[1, 1]]], kernel_size=2))
    assert different_values.undefined[0].ravel().tolist() == [False, True, *[False] * 6]


@pytest.mark.parametrize(
    ("indices", "forward", "message"),
    [
        ([[[0, 8]]], {}, "index 8 is outside its plane; expected 0 to 7"),
        ([[[0, -1]]], {}, "index -1 is outside its plane"),
        ([[[0]]], {}, "indices have shape"),
        ([[[0, 1]]], {"output_size": (4, 4)}, "output_size 4; expected 1 to 3"),
        ([[[0, 1]]], {"output_size": (1, 1, 1, 1, 1)}, "output_size has 5 numbers"),
    ],
)
def test_an_unpool_that_torch_refuses_is_refused(indices: Any, forward: dict[str, Any], message: str) -> None:
    call = unpool([[[3.0, 4.0]]], indices, forward, kernel_size=2)
    with pytest.raises(ValueError, match=message):
        layer("MaxUnpool2d").float64_reference(call)
    with pytest.raises((RuntimeError, ValueError)):
        eager("MaxUnpool2d", call.args, call)


def test_a_number_of_slopes_that_is_not_the_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="3 slopes for 2 channels; expected 1 or 2"):
        layer("PReLU").float64_reference(Call({}, {"weight": np.ones(3)}, [np.ones((1, 2))]))


def test_a_leaky_relu_without_arguments_has_the_slope_of_torch() -> None:
    call = Call({}, {}, [np.array([-3.0, 2.0])])
    answer = layer("LeakyReLU").float64_reference(call)
    assert answer is not None
    assert answer.outputs[0] == pytest.approx(eager("LeakyReLU", {}, call)[0])


@pytest.mark.parametrize(("name", "args"), [("LeakyReLU", {"negative_slope": 0.01}), ("RReLU", {})])
def test_a_slope_is_rounded_to_the_compute_dtype(name: str, args: dict[str, Any]) -> None:
    x = -np.abs(np.random.default_rng(0).standard_normal(4096)).astype(np.float32)
    expected = getattr(torch.nn, name)(**args).eval()(torch.from_numpy(x)).numpy()
    (single,) = layer(name).float64_reference(Call(args, {}, [x.astype(np.float64)], dtype="float32")).outputs
    (double,) = layer(name).float64_reference(Call(args, {}, [x.astype(np.float64)], dtype="float64")).outputs
    assert same(single.astype(np.float32), expected)
    assert not same(double.astype(np.float32), expected)


def test_a_random_slope_has_no_float64_reference() -> None:
    assert layer("RReLU").float64_reference(Call({}, {}, [np.ones(2)], mode="train")) is None


@pytest.mark.parametrize("name", ["Sigmoid", "Tanh"])
@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64])
def test_integers_are_computed_as_numbers(name: str, dtype: type[Any]) -> None:
    x = np.array([0, 1, 1, 0]).astype(dtype)
    expected = getattr(torch, name.lower())(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(layer(name).float64_reference(Call({}, {}, [x])).outputs[0], expected, rtol=1e-6)


def test_saturated_ends_neither_overflow_nor_cancel() -> None:
    x = np.array([-800.0, -700.0, -1e-320, 1e-320, 700.0])
    assert layer("Tanh").float64_reference(Call({}, {}, [x])).outputs[0].tolist() == [-1, -1, -1e-320, 1e-320, 1]
    sigmoid = layer("Sigmoid").float64_reference(Call({}, {}, [x])).outputs[0]
    np.testing.assert_allclose(sigmoid, [0, np.exp(-700), 0.5, 0.5, 1], rtol=1e-15)


def test_no_float64_reference_needs_torch() -> None:
    program = (
        "import sys, numpy as np\n"
        "from harness.registry import plugins\n"
        "from harness.layers import Call\n"
        "relu = plugins('layers')['ReLU']\n"
        "assert relu.float64_reference(Call({}, {}, [np.array([-1.0])])).outputs[0] == 0\n"
        "heavy = {'torch', 'scipy', 'onnx', 'onnxruntime'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
