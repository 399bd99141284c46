"""Each rule lets pass what it should and catches what it should, and comparing loses no digit."""

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
MOST = np.iinfo(np.int64).max
LEAST = np.iinfo(np.int64).min


def held(actual: Any, expected: Any, rule: Rule, dtype: Any = "float32", **more: Any) -> OutputComparison:
    one, other = np.array(actual, dtype=dtype), np.array(expected, dtype=dtype)
    return compare({"o": one}, {"o": other}, Tolerance(rule), **more).outputs[0]


def test_exact_catches_one_bit() -> None:
    one = np.float32(1)
    assert held([one], [one], Exact()).passed
    wrong = held([np.nextafter(one, np.float32(2))], [one], Exact())
    assert (wrong.passed, wrong.max_ulp, wrong.mismatched) == (False, 1, 1)


def test_ulp_catches_one_more_than_it_allows() -> None:
    three = np.float32(1) + 3 * np.finfo(np.float32).eps
    assert held([three], [1], Ulp(3)).passed
    assert not held([three], [1], Ulp(2)).passed


def test_close_catches_what_is_beyond_the_sum_of_both() -> None:
    assert held([1.5], [1.0], Close(0.25, 0.25)).passed
    assert not held([np.nextafter(np.float32(1.5), np.float32(2))], [1.0], Close(0.25, 0.25)).passed
    assert not held([1.0], [1.5], Close(0.3, 0.0)).passed  # relative to the expected, not to the larger


def test_scaled_is_measured_by_the_terms_and_not_by_the_result() -> None:
    eps = float(np.finfo(np.float32).eps)
    terms = [np.array([1000.0])]
    assert held([900 * eps], [0], Scaled(1), magnitudes=terms).passed
    assert not held([1100 * eps], [0], Scaled(1), magnitudes=terms).passed
    assert held([900 * eps], [0], Scaled(1), magnitudes=terms).tolerance == "1 eps of the terms' magnitudes"


def test_scaled_leaves_room_for_one_rounding_below_the_normal_range() -> None:
    tiny = float(np.finfo(np.float32).smallest_subnormal)
    assert held([2 * tiny], [tiny], Scaled(1), magnitudes=[np.array([4 * tiny])]).passed
    assert not held([3 * tiny], [tiny], Scaled(1), magnitudes=[np.array([4 * tiny])]).passed
    assert not held([tiny], [0], Scaled(1), magnitudes=[np.array([0.0])]).passed


def test_magnitudes_stay_with_their_elements_where_others_are_left_out() -> None:
    terms, eps = np.array([1e6, 1e6, 1.0, 1e6]), float(np.finfo(np.float32).eps)
    for shift, passed in ((0.5 * eps, True), (4 * eps, False)):
        actual, expected = [np.nan, 5.0, 0.25 + shift, 7.0], [np.nan, 9.0, 0.25, 7.0]
        mask = np.array([False, True, False, False])
        output = held(actual, expected, Scaled(1), magnitudes=[terms], undefined=[mask])
        assert output.passed == passed
        assert output.worst == (2,)


@pytest.mark.parametrize("magnitude", [np.inf, np.nan, -1.0])
def test_scaled_excuses_nothing_by_a_senseless_magnitude(magnitude: float) -> None:
    assert not held([1.0], [2.0], Scaled(1e6), magnitudes=[np.array([magnitude])]).passed
    assert held([2.0], [2.0], Scaled(1e6), magnitudes=[np.array([magnitude])]).passed


def test_scaled_without_magnitudes_is_the_callers_error() -> None:
    with pytest.raises(ValueError, match="needs the sum of the terms' magnitudes"):
        held([1.0], [1.0], Scaled(1))
    with pytest.raises(ValueError, match="needs the sum of the terms' magnitudes"):
        held([1.0], [1.0], Scaled(1), magnitudes=[None])


@pytest.mark.parametrize("rule", [Ulp(-1), Close(-1.0, 0.0), Close(0.0, float("inf")), Close(float("nan"), 0)])
def test_a_bound_that_bounds_nothing_is_the_callers_error(rule: Rule) -> None:
    with pytest.raises(ValueError, match="must be finite and not negative"):
        held([1.0], [1.0], rule)


def test_the_tolerance_given_is_the_tolerance_used_and_told() -> None:
    by_output = Tolerance(Exact(), {1: Close(0.0, 1.0)})
    outputs = {"a": np.ones(1, np.float32), "b": np.ones(1, np.float32)}
    other = {"a": np.ones(1, np.float32) * 1.5, "b": np.ones(1, np.float32) * 1.5}
    first, second = compare(other, outputs, by_output).outputs
    assert (first.passed, first.tolerance) == (False, "exact")
    assert (second.passed, second.tolerance) == (True, "rtol 0 + atol 1")


@pytest.mark.parametrize("rule", [Close(1.0, 10.0), Ulp(10), Scaled(1e9)])
@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", ml_dtypes.int4])
def test_integers_and_bools_are_exact_whatever_the_rule(rule: Rule, dtype: Any) -> None:
    wrong = held([0, 1], [1, 1], rule, dtype)
    assert (wrong.passed, wrong.tolerance, wrong.worst) == (False, "exact", (0,))


def test_only_a_close_that_names_the_output_loosens_an_integer() -> None:
    one, other = {"o": np.array([3], np.int64)}, {"o": np.array([4], np.int64)}
    assert compare(one, other, Tolerance(Exact(), {0: Close(0.0, 1.0)})).passed
    assert not compare(one, other, Tolerance(Exact(), {0: Close(0.0, 0.99)})).passed
    assert not compare(one, other, Tolerance(Exact(), {0: Ulp(5)})).passed
    assert not compare(one, other, Tolerance(Exact(), {0: Scaled(5)})).passed


def test_64_bit_integers_are_compared_to_the_last_digit() -> None:
    near = held([2**62 + 1], [2**62], Exact(), "int64")
    assert (near.passed, near.max_ulp, near.max_abs) == (False, 1, 1.0)
    far = held([MOST], [LEAST], Exact(), "int64")
    assert far.max_ulp == 2**64 - 1
    assert held([2**64 - 1], [0], Exact(), "uint64").max_ulp == 2**64 - 1
    assert (far.actual_at_worst, far.expected_at_worst) == (MOST, LEAST)


@pytest.mark.parametrize("atol", [2.0**63, 2.0**64 - 2048, 2.0**64])
def test_a_wide_tolerance_on_64_bit_integers_is_exact_too(atol: float) -> None:
    tolerance = Tolerance(Exact(), {0: Close(0.0, atol)})
    for apart in (2**63, 2**63 + 1, 2**64 - 2048, 2**64 - 2047, 2**64 - 1):
        one, other = {"o": np.array([apart], np.uint64)}, {"o": np.array([0], np.uint64)}
        assert compare(one, other, tolerance).passed == (apart <= int(atol))


def test_float64_differences_that_overflow_are_still_told_apart() -> None:
    most = float(np.finfo(np.float64).max)
    same_side = held([most], [most], Close(0.0, 0.0), "float64")
    assert same_side.passed
    far = held([most], [-most], Close(1.5, 0.0), "float64")
    assert (far.passed, far.max_abs, far.max_rel, far.least_rtol, far.least_atol) == (False, np.inf, 2.0, 2.0, np.inf)
    assert held([most], [-most], Close(2.0, 0.0), "float64").passed
    assert held([most, 1.0], [-most, 1.0], Close(2.0, 0.0), "float64").worst == (0,)
    assert not held([1e308], [-0.9e308], Close(0.0, 1.5e308), "float64").passed
    assert held([1e308], [-0.7e308], Close(0.0, 1.7e308), "float64").passed
    terms = [np.array([1e308])]
    assert held([1e308], [-1e308], Scaled(1.01e16), "float64", magnitudes=terms).passed
    assert not held([1e308], [-1e308], Scaled(0.8e16), "float64", magnitudes=terms).passed


@pytest.mark.parametrize(
    ("dtype", "tiny"), [("float16", 6e-8), ("float32", 1e-45), ("float64", 5e-324), (BF16, 9.2e-41)]
)
def test_denormals_are_told_from_zero_and_from_their_neighbours(dtype: Any, tiny: float) -> None:
    for rule in (Exact(), Close(0.0, 0.0), Ulp(0)):
        wrong = held([tiny], [0.0], rule, dtype)
        assert (wrong.passed, wrong.max_ulp) == (False, 1)
    assert held([tiny], [-tiny], Ulp(2), dtype).passed
    assert held([tiny], [-tiny], Exact(), dtype).max_ulp == 2


def test_half_precision_is_compared_without_its_own_rounding_and_overflow() -> None:
    apart = held([65504], [-65504], Close(0.0, 1e5), "float16")
    assert (apart.passed, apart.max_abs) == (False, 131008.0)
    assert held([2.0], [1.9990234375], Exact(), "float16").max_ulp == 1
    assert held([3e38], [-3e38], Exact(), BF16).max_abs == pytest.approx(6e38, rel=1e-2)


@pytest.mark.parametrize("rule", [Exact(), Ulp(0), Close(0.0, 0.0), Scaled(0.0)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", BF16])
def test_the_sign_of_zero_is_told_and_counts_for_nothing(rule: Rule, dtype: Any) -> None:
    one, other = np.array([0.0, -0.0, 1.0], dtype), np.array([-0.0, 0.0, 1.0], dtype)
    comparison = compare({"o": one}, {"o": other}, Tolerance(rule), magnitudes=[np.ones(3)])
    assert comparison.passed
    assert comparison.outputs[0].max_ulp == 0
    assert comparison.notes == ("o: the sign of zero differs at 2 of 3 elements",)


def test_the_numbers_of_the_worst_are_in_the_sentence() -> None:
    comparison = compare(
        {"o": np.array([[1.0, 2.0], [3.0, 5.0]], np.float32)},
        {"o": np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)},
        Tolerance(Close(1e-3, 0.0)),
    )
    assert comparison.message == (
        "o: 1 of 4 elements is outside rtol 0.001 + atol 0; the worst, at (1, 1), is 5.0 where 4.0 is expected, "
        "off by 1 absolute, 0.25 relative, 2097152 ulp"
    )


def test_the_worst_is_the_one_furthest_outside_and_not_the_largest_difference() -> None:
    expected: NDArray[np.float32] = np.array([1e6, 1.0, 0.0], np.float32)
    actual = np.array([1e6 + 8, 2.0, 0.0], np.float32)
    output = compare({"o": actual}, {"o": expected}, Tolerance(Close(1e-5, 0.0))).outputs[0]
    assert (output.worst, output.mismatched) == ((1,), 1)
    against_zero = held([1e-9, 1e-3, 5.0], [0.0, 0.0, 1.0], Close(1e-5, 0.0))
    assert against_zero.worst == (1,)


def test_strict_ulp_holds_everything_to_n_and_never_loosens() -> None:
    tolerance = Tolerance(Close(1.0, 1.0), {0: Exact(), 1: Ulp(1), 2: Ulp(9), 3: Scaled(4)})
    strict = strict_ulp(tolerance, 3)
    assert strict == Tolerance(Ulp(3), {0: Exact(), 1: Ulp(1), 2: Ulp(3), 3: Ulp(3)})
    far = {"o": np.array([1.5], np.float32)}
    assert compare(far, {"o": np.array([1.0], np.float32)}, Tolerance(Close(1.0, 1.0))).passed
    assert not compare(far, {"o": np.array([1.0], np.float32)}, strict_ulp(Tolerance(Close(1.0, 1.0)), 3)).passed
    with pytest.raises(ValueError, match="-1 ulp is no tolerance"):
        strict_ulp(tolerance, -1)
