"""A pass under a tolerance that cannot detect an error is inconclusive; a pass within correct rounding is not."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from harness.compare.verdict import compare
from harness.result import OutputComparison
from harness.spec.language.tolerances import Close, Exact, Rule, Scaled, Tolerance, Ulp

DEFAULT = Close(1.3e-6, 1e-5)


def passing(actual: NDArray[Any], expected: NDArray[Any], rule: Rule, **more: Any) -> OutputComparison:
    output = compare({"o": actual}, {"o": expected}, Tolerance(rule, {0: rule}), **more).outputs[0]
    assert output.passed
    return output


def signal(*shape: int, dtype: Any = np.float32) -> NDArray[Any]:
    return np.random.default_rng(7).standard_normal(shape).astype(dtype)


def test_a_small_channel_flushed_to_zero_is_inconclusive() -> None:
    expected = signal(2, 3, 4, 4)
    expected[:, 1] *= 1e-6
    actual = expected.copy()
    actual[:, 1] = 0
    assert passing(actual, expected, DEFAULT).inconclusive == (
        "32 of 96 values are off by more than 10 % (32 of them are zero, expected nonzero) and pass only because "
        "the tolerance is rtol 1.3e-06 + atol 1e-05; first at [0, 1, 0, 0]"
    )


def test_a_wrong_channel_that_is_a_small_share_of_the_output_is_inconclusive() -> None:
    expected = signal(1, 64, 2, 2)
    expected[:, 5] *= 1e-6
    actual = expected.copy()
    actual[:, 5] *= -1
    assert "4 of 256 values are off by more than 10 % and pass only" in (
        passing(actual, expected, DEFAULT).inconclusive or ""
    )


@pytest.mark.parametrize("where", [np.s_[3, 10:18], np.s_[10:13, 20:23]])
def test_a_wrong_run_and_a_wrong_block_in_a_large_output_are_inconclusive(where: Any) -> None:
    expected = signal(64, 64)
    expected[where] = 1e-6
    actual = expected.copy()
    actual[where] = 2e-6
    assert passing(actual, expected, DEFAULT).inconclusive is not None


def test_a_large_share_of_scattered_wrong_values_is_inconclusive() -> None:
    expected = signal(500)
    expected[::5] = 1e-6
    actual = expected.copy()
    actual[::5] = 0
    assert "100 of 500 values are off by more than 10 %" in (passing(actual, expected, DEFAULT).inconclusive or "")


def test_the_flushed_tail_of_a_saturating_function_is_inconclusive() -> None:
    x = np.linspace(-40, 40, 401)
    expected = (1 / (1 + np.exp(-x))).astype(np.float32)
    flushed = np.where(x < -18, 0, expected).astype(np.float32)
    assert "of them are zero, expected nonzero" in (passing(flushed, expected, DEFAULT).inconclusive or "")


def test_a_few_scattered_values_are_cancellation() -> None:
    expected = signal(100, 100)
    actual = expected + 1e-6 * signal(100, 100)[::-1]
    expected.reshape(-1)[::397] = 1e-7
    actual.reshape(-1)[::397] = -2e-7
    assert passing(actual, expected, Close(1e-5, 1e-5)).inconclusive is None


def test_a_few_scattered_values_of_one_row_are_cancellation_and_a_whole_row_is_not() -> None:
    expected = signal(1, 500)
    expected[0, ::80] = 1e-6
    actual = expected.copy()
    actual[0, ::80] = 0
    for shape in ((1, 500), (500,), (500, 1), (1, 500, 1)):
        assert passing(actual.reshape(shape), expected.reshape(shape), DEFAULT).inconclusive is None
    rows = signal(40, 6)
    rows[7] = 1e-6
    assert "6 of 240 values are off" in (passing(np.where(rows == rows[7], 0, rows), rows, DEFAULT).inconclusive or "")


@pytest.mark.parametrize("dtype", ["float16", "float32", ml_dtypes.bfloat16])
def test_cancellation_under_scaled_is_conclusive(dtype: Any) -> None:
    rng = np.random.default_rng(3)
    eps = float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]
    terms = np.full((8, 8), 1000.0)
    noise = [(eps * 1000 * rng.uniform(-1, 1, (8, 8))).astype(dtype) for _ in range(2)]
    assert passing(noise[0], noise[1], Scaled(4), magnitudes=[terms]).inconclusive is None


def test_known_magnitudes_explain_cancellation_under_any_rule_and_nothing_more() -> None:
    expected, actual = np.full((4, 4), 1e-7, np.float32), np.full((4, 4), -1e-7, np.float32)
    rule = Close(0.0, 1e-5)
    assert passing(actual, expected, rule, magnitudes=[np.ones((4, 4))]).inconclusive is None
    assert passing(actual, expected, rule, magnitudes=[np.full((4, 4), 1e-7)]).inconclusive is not None
    assert passing(actual, expected, rule).inconclusive is not None


def test_correct_rounding_in_every_dtype_is_conclusive() -> None:
    for dtype, rule in (
        ("float16", Close(1e-3, 1e-5)),
        ("float32", DEFAULT),
        ("float64", Close(1e-7, 1e-7)),
        (ml_dtypes.bfloat16, Close(1.6e-2, 1e-5)),
    ):
        expected = signal(3, 200, dtype=dtype)
        actual = np.nextafter(expected, np.array(np.inf, dtype))
        assert passing(actual, expected, rule).inconclusive is None


def test_neighbouring_denormals_are_conclusive() -> None:
    tiny = np.finfo(np.float32).smallest_subnormal
    expected = (np.arange(1, 17) * tiny).astype(np.float32)
    expected = np.concatenate([expected, np.ones(4, np.float32)])
    assert passing(expected + tiny, expected, Ulp(1)).inconclusive is None
    assert passing(expected + tiny, expected, DEFAULT).inconclusive is None
    flushed = np.where(expected < 1e-30, 0, expected).astype(np.float32)
    assert passing(flushed, expected, Ulp(16)).inconclusive is None
    assert passing(flushed, expected, DEFAULT).inconclusive is not None


def test_a_tolerance_that_all_zeros_would_pass_is_inconclusive_even_for_equal_outputs() -> None:
    expected = signal(3, 3) * np.float32(1e-6)
    assert passing(expected.copy(), expected, DEFAULT).inconclusive == "an all-zero output would pass too"
    one = np.array(0.5, np.float32)
    assert passing(one, one, Close(0.0, 0.5)).inconclusive == "an all-zero output would pass too"
    assert passing(one, one, Close(0.0, 0.49)).inconclusive is None


def test_a_tolerance_that_the_mean_would_pass_is_inconclusive() -> None:
    expected = 5 + signal(4, 4) * np.float32(1e-3)
    assert passing(expected.copy(), expected, Close(0.0, 1e-2)).inconclusive == (
        f"an output of {expected.astype(float).mean():.4g} everywhere (the mean) would pass too"
    )
    assert passing(expected.copy(), expected, Close(0.0, 1e-4)).inconclusive is None


def test_expected_zeros_and_constants_are_conclusive() -> None:
    for expected in (np.zeros((3, 3), np.float32), np.full((3, 3), 4 / 3, np.float32)):
        assert passing(expected.copy(), expected, DEFAULT).inconclusive is None
    third = np.float32(4 / 3)
    rounded = np.array([third, np.nextafter(third, np.float32(2))] * 4)
    assert passing(rounded.copy(), rounded, DEFAULT).inconclusive is None


def test_exact_and_a_fine_ulp_detect_everything_and_a_coarse_ulp_does_not() -> None:
    expected = signal(4, 4)
    assert passing(expected.copy(), expected, Exact()).inconclusive is None
    assert passing(expected.copy(), expected, Ulp(1000)).inconclusive is None
    assert passing(expected.copy(), expected, Ulp(2**31)).inconclusive == "an all-zero output would pass too"


def test_a_scaled_tolerance_that_is_far_too_wide_is_inconclusive() -> None:
    expected = signal(4, 4)
    output = passing(expected.copy(), expected, Scaled(1e8), magnitudes=[np.abs(expected).astype(float)])
    assert output.inconclusive == "an all-zero output would pass too"


def test_a_close_that_hides_differences_of_integers_is_inconclusive() -> None:
    classes = np.array([0, 1, 1, 0], np.int64)
    assert passing(classes.copy(), classes, Close(0.0, 1.0)).inconclusive == "an all-zero output would pass too"


def test_a_failing_output_is_not_called_inconclusive() -> None:
    expected = np.append(np.full(20, 1e-9, np.float32), np.float32(1))
    flushed = np.append(np.zeros(20, np.float32), np.float32(1))
    rule = Close(0.0, 1e-3)
    assert passing(flushed, expected, rule).inconclusive is not None
    flushed[-1] = 9
    failing = compare({"o": flushed}, {"o": expected}, Tolerance(rule)).outputs[0]
    assert (failing.passed, failing.inconclusive) == (False, None)


def test_huge_values_of_the_other_sign_are_a_wrong_region_although_their_difference_overflows() -> None:
    expected = np.full(8, 1.5e308)
    output = passing(-expected, expected, Close(2.1, 0.0))
    assert "8 of 8 values are off by more than 10 % and pass only" in (output.inconclusive or "")
