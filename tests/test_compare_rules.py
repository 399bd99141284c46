"""Each rule passes and fails what it should, and the comparison loses no digit."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from harness.compare.rules import strict_ulp
from harness.compare.verdict import compare
from harness.result import OutputComparison
from harness.spec.language.tolerances import Close, Exact, Rule, Scaled, Tolerance, Ulp

BF16 = np.dtype(ml_dtypes.bfloat16)
INT64_MAX = np.iinfo(np.int64).max
INT64_MIN = np.iinfo(np.int64).min


def compared(actual: Any, expected: Any, rule: Rule, dtype: Any = "float32", **more: Any) -> OutputComparison:
    one, other = np.array(actual, dtype=dtype), np.array(expected, dtype=dtype)
    return compare({"o": one}, {"o": other}, Tolerance(rule), **more).outputs[0]


def test_exact_catches_one_bit() -> None:
    one = np.float32(1)
    assert compared([one], [one], Exact()).passed
    wrong = compared([np.nextafter(one, np.float32(2))], [one], Exact())
    assert (wrong.passed, wrong.max_ulp, wrong.mismatched) == (False, 1, 1)


def test_ulp_catches_one_more_than_it_allows() -> None:
    three = np.float32(1) + 3 * np.finfo(np.float32).eps
    assert compared([three], [1], Ulp(3)).passed
    assert not compared([three], [1], Ulp(2)).passed


def test_close_catches_what_is_beyond_the_sum_of_both() -> None:
    assert compared([1.5], [1.0], Close(0.25, 0.25)).passed
    assert not compared([np.nextafter(np.float32(1.5), np.float32(2))], [1.0], Close(0.25, 0.25)).passed
    assert not compared([1.0], [1.5], Close(0.3, 0.0)).passed  # relative to the expected, not to the larger


def test_scaled_is_measured_by_the_terms_and_not_by_the_result() -> None:
    eps = float(np.finfo(np.float32).eps)
    terms = [np.array([1000.0])]
    assert compared([900 * eps], [0], Scaled(1), magnitudes=terms).passed
    assert not compared([1100 * eps], [0], Scaled(1), magnitudes=terms).passed
    assert compared([900 * eps], [0], Scaled(1), magnitudes=terms).tolerance == "1 x eps x sum of magnitudes of terms"


def test_scaled_leaves_room_for_one_rounding_below_the_normal_range() -> None:
    tiny = float(np.finfo(np.float32).smallest_subnormal)
    assert compared([2 * tiny], [tiny], Scaled(1), magnitudes=[np.array([4 * tiny])]).passed
    assert not compared([3 * tiny], [tiny], Scaled(1), magnitudes=[np.array([4 * tiny])]).passed
    assert not compared([tiny], [0], Scaled(1), magnitudes=[np.array([0.0])]).passed


def test_magnitudes_stay_with_their_elements_where_others_are_excluded() -> None:
    terms, eps = np.array([1e6, 1e6, 1.0, 1e6]), float(np.finfo(np.float32).eps)
    for shift, passed in ((0.5 * eps, True), (4 * eps, False)):
        actual, expected = [np.nan, 5.0, 0.25 + shift, 7.0], [np.nan, 9.0, 0.25, 7.0]
        mask = np.array([False, True, False, False])
        output = compared(actual, expected, Scaled(1), magnitudes=[terms], undefined=[mask])
        assert output.passed == passed
        assert output.worst == (2,)


@pytest.mark.parametrize("magnitude", [np.inf, np.nan, -1.0])
def test_scaled_allows_nothing_for_an_invalid_magnitude(magnitude: float) -> None:
    assert not compared([1.0], [2.0], Scaled(1e6), magnitudes=[np.array([magnitude])]).passed
    assert compared([2.0], [2.0], Scaled(1e6), magnitudes=[np.array([magnitude])]).passed


def test_scaled_without_magnitudes_raises() -> None:
    with pytest.raises(ValueError, match="needs the sum of magnitudes of terms"):
        compared([1.0], [1.0], Scaled(1))
    with pytest.raises(ValueError, match="needs the sum of magnitudes of terms"):
        compared([1.0], [1.0], Scaled(1), magnitudes=[None])


@pytest.mark.parametrize("rule", [Ulp(-1), Close(-1.0, 0.0), Close(0.0, float("inf")), Close(float("nan"), 0)])
def test_an_invalid_bound_raises(rule: Rule) -> None:
    with pytest.raises(ValueError, match="must be finite and not negative"):
        compared([1.0], [1.0], rule)


def test_the_requested_tolerance_is_used_and_reported() -> None:
    by_output = Tolerance(Exact(), {1: Close(0.0, 1.0)})
    outputs = {"a": np.ones(1, np.float32), "b": np.ones(1, np.float32)}
    other = {"a": np.ones(1, np.float32) * 1.5, "b": np.ones(1, np.float32) * 1.5}
    first, second = compare(other, outputs, by_output).outputs
    assert (first.passed, first.tolerance) == (False, "exact")
    assert (second.passed, second.tolerance) == (True, "rtol 0 + atol 1")


@pytest.mark.parametrize("rule", [Close(1.0, 10.0), Ulp(10), Scaled(1e9)])
@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", ml_dtypes.int4])
def test_integers_and_bools_are_exact_whatever_the_rule(rule: Rule, dtype: Any) -> None:
    wrong = compared([0, 1], [1, 1], rule, dtype)
    assert (wrong.passed, wrong.tolerance, wrong.worst) == (False, "exact", (0,))


def test_only_a_close_that_names_the_output_loosens_an_integer() -> None:
    one, other = {"o": np.array([3], np.int64)}, {"o": np.array([4], np.int64)}
    assert compare(one, other, Tolerance(Exact(), {0: Close(0.0, 1.0)})).passed
    assert not compare(one, other, Tolerance(Exact(), {0: Close(0.0, 0.99)})).passed
    assert not compare(one, other, Tolerance(Exact(), {0: Ulp(5)})).passed
    assert not compare(one, other, Tolerance(Exact(), {0: Scaled(5)})).passed


def test_64_bit_integers_are_compared_to_the_last_digit() -> None:
    near = compared([2**62 + 1], [2**62], Exact(), "int64")
    assert (near.passed, near.max_ulp, near.max_abs) == (False, 1, 1.0)
    far = compared([INT64_MAX], [INT64_MIN], Exact(), "int64")
    assert far.max_ulp == 2**64 - 1
    assert compared([2**64 - 1], [0], Exact(), "uint64").max_ulp == 2**64 - 1
    assert (far.actual_at_worst, far.expected_at_worst) == (INT64_MAX, INT64_MIN)


@pytest.mark.parametrize("atol", [2.0**63, 2.0**64 - 2048, 2.0**64])
def test_a_wide_tolerance_on_64_bit_integers_is_exact_too(atol: float) -> None:
    tolerance = Tolerance(Exact(), {0: Close(0.0, atol)})
    for apart in (2**63, 2**63 + 1, 2**64 - 2048, 2**64 - 2047, 2**64 - 1):
        one, other = {"o": np.array([apart], np.uint64)}, {"o": np.array([0], np.uint64)}
        assert compare(one, other, tolerance).passed == (apart <= int(atol))


def test_float64_differences_that_overflow_are_still_compared() -> None:
    most = float(np.finfo(np.float64).max)
    same_side = compared([most], [most], Close(0.0, 0.0), "float64")
    assert same_side.passed
    far = compared([most], [-most], Close(1.5, 0.0), "float64")
    assert (far.passed, far.max_abs, far.max_rel, far.least_rtol, far.least_atol) == (False, np.inf, 2.0, 2.0, np.inf)
    assert compared([most], [-most], Close(2.0, 0.0), "float64").passed
    assert compared([most, 1.0], [-most, 1.0], Close(2.0, 0.0), "float64").worst == (0,)
    assert not compared([1e308], [-0.9e308], Close(0.0, 1.5e308), "float64").passed
    assert compared([1e308], [-0.7e308], Close(0.0, 1.7e308), "float64").passed
    terms = [np.array([1e308])]
    assert compared([1e308], [-1e308], Scaled(1.01e16), "float64", magnitudes=terms).passed
    assert not compared([1e308], [-1e308], Scaled(0.8e16), "float64", magnitudes=terms).passed


@pytest.mark.parametrize(
    ("dtype", "tiny"), [("float16", 6e-8), ("float32", 1e-45), ("float64", 5e-324), (BF16, 9.2e-41)]
)
def test_denormals_differ_from_zero_and_from_their_neighbours(dtype: Any, tiny: float) -> None:
    for rule in (Exact(), Close(0.0, 0.0), Ulp(0)):
        wrong = compared([tiny], [0.0], rule, dtype)
        assert (wrong.passed, wrong.max_ulp) == (False, 1)
    assert compared([tiny], [-tiny], Ulp(2), dtype).passed
    assert compared([tiny], [-tiny], Exact(), dtype).max_ulp == 2


def test_half_precision_is_compared_without_its_own_rounding_and_overflow() -> None:
    apart = compared([65504], [-65504], Close(0.0, 1e5), "float16")
    assert (apart.passed, apart.max_abs) == (False, 131008.0)
    assert compared([2.0], [1.9990234375], Exact(), "float16").max_ulp == 1
    assert compared([3e38], [-3e38], Exact(), BF16).max_abs == pytest.approx(6e38, rel=1e-2)


@pytest.mark.parametrize("rule", [Exact(), Ulp(0), Close(0.0, 0.0), Scaled(0.0)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", BF16])
def test_the_sign_of_zero_is_noted_and_counts_as_equal(rule: Rule, dtype: Any) -> None:
    one, other = np.array([0.0, -0.0, 1.0], dtype), np.array([-0.0, 0.0, 1.0], dtype)
    comparison = compare({"o": one}, {"o": other}, Tolerance(rule), magnitudes=[np.ones(3)])
    assert comparison.passed
    assert comparison.outputs[0].max_ulp == 0
    assert comparison.notes == ("o: the sign of zero differs in 2 of 3 values, which counts as equal",)


def test_the_worst_value_is_in_the_message() -> None:
    comparison = compare(
        {"o": np.array([[1.0, 2.0], [3.0, 5.0]], np.float32)},
        {"o": np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)},
        Tolerance(Close(1e-3, 0.0)),
    )
    assert comparison.message == (
        "o: 1 of 4 values differs by more than the tolerance; worst at [1, 1]: 5, expected 4 (25 % off); "
        "allowed: rtol 0.001 + atol 0"
    )


@pytest.mark.parametrize(
    ("actual", "expected", "rule", "dtype", "problem"),
    [
        (
            -0.545862913,
            -0.727817237,
            Exact(),
            "float32",
            "-0.5459, expected -0.7278 (25 % off); allowed: no difference",
        ),
        (1 + 2**-23, 1, Exact(), "float32", "1, expected 1 (off by 1.192e-07, 1 ulp); allowed: no difference"),
        (1.5, 1, Ulp(4), "float32", "1.5, expected 1 (50 % off, 4.194e+06 ulp); allowed: 4 ulp"),
        (0.25, 0, Close(0.0, 1e-3), "float32", "0.25, expected 0 (off by 0.25); allowed: rtol 0 + atol 0.001"),
        (3e4, 2.0, Close(0.0, 1e-3), "float32", "3e+04, expected 2 (off by 3e+04); allowed: rtol 0 + atol 0.001"),
        (123456, 123457, Exact(), "int64", "123456, expected 123457 (off by 1); allowed: no difference"),
        (
            1.7e308,
            -1.7e308,
            Close(0.0, 1.0),
            "float64",
            "1.7e+308, expected -1.7e+308 (1.844e+19 ulp off); allowed: rtol 0 + atol 1",
        ),
    ],
)
def test_the_message_has_the_unit_that_fits_and_at_most_four_digits(
    actual: float, expected: float, rule: Rule, dtype: str, problem: str
) -> None:
    several = compared([expected, actual], [expected, expected], rule, dtype)
    assert several.problem == f"1 of 2 values differs by more than the tolerance; worst at [1]: {problem}"
    single = compared(actual, expected, rule, dtype)
    assert single.problem == f"1 of 1 value differs by more than the tolerance: {problem}"
    assert single.actual_at_worst == np.array(actual, dtype).item(), "the report has every digit"


def test_the_worst_is_the_one_that_exceeds_its_limit_the_most_and_not_the_largest_difference() -> None:
    expected: NDArray[np.float32] = np.array([1e6, 1.0, 0.0], np.float32)
    actual = np.array([1e6 + 8, 2.0, 0.0], np.float32)
    output = compare({"o": actual}, {"o": expected}, Tolerance(Close(1e-5, 0.0))).outputs[0]
    assert (output.worst, output.mismatched) == ((1,), 1)
    against_zero = compared([1e-9, 1e-3, 5.0], [0.0, 0.0, 1.0], Close(1e-5, 0.0))
    assert against_zero.worst == (1,)


def test_strict_ulp_limits_every_rule_to_n_and_never_loosens() -> None:
    tolerance = Tolerance(Close(1.0, 1.0), {0: Exact(), 1: Ulp(1), 2: Ulp(9), 3: Scaled(4)})
    strict = strict_ulp(tolerance, 3)
    assert strict == Tolerance(Ulp(3), {0: Exact(), 1: Ulp(1), 2: Ulp(3), 3: Ulp(3)})
    far = {"o": np.array([1.5], np.float32)}
    assert compare(far, {"o": np.array([1.0], np.float32)}, Tolerance(Close(1.0, 1.0))).passed
    assert not compare(far, {"o": np.array([1.0], np.float32)}, strict_ulp(Tolerance(Close(1.0, 1.0)), 3)).passed
    with pytest.raises(ValueError, match="invalid tolerance -1 ulp: it must be 0 or more"):
        strict_ulp(tolerance, -1)
