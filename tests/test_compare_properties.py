"""Properties for any two arrays: no false pass, no false alarm, no exception, no warning."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.compare.numbers import Pair
from harness.compare.verdict import compare
from harness.result import OutputComparison
from harness.spec.language.tolerances import Close, Exact, Rule, Scaled, Tolerance, Ulp
from tests.compare_arrays import FLOATS, INTEGERS, NARROW, RULES, SHAPES, UNLIKE, Array, arrays, pairs

ALL = FLOATS + NARROW + INTEGERS


def compared(one: Array, other: Array, rule: Rule, **more: Any) -> OutputComparison:
    terms = [np.abs(other.astype(np.float64))] if isinstance(rule, Scaled) else []
    return compare({"o": one}, {"o": other}, Tolerance(rule, {0: rule}), magnitudes=terms, **more).outputs[0]


def finite(array: Array) -> bool:
    with np.errstate(invalid="ignore"):
        return bool(np.isfinite(array.astype(np.float64)).all())


@settings(max_examples=400)
@given(pairs(ALL), RULES)
def test_any_pair_can_be_compared(pair: tuple[Array, Array], rule: Rule) -> None:
    # Warnings are errors here, so this also tests that there is no RuntimeWarning.
    output = compared(*pair, rule)
    assert output.of == pair[0].size
    assert 0 <= output.mismatched <= output.of
    assert output.passed == (output.mismatched == 0)
    assert (output.worst is None) == (output.max_ulp in {0, None} and output.passed)


@given(st.sampled_from(ALL), SHAPES, st.data(), RULES)
def test_equal_arrays_pass_every_rule(
    dtype: np.dtype[Any], shape: tuple[int, ...], data: st.DataObject, rule: Rule
) -> None:
    values = data.draw(arrays(dtype, shape))
    output = compared(values, values.copy(), rule)
    assert output.passed
    assert output.mismatched == output.least_rtol == output.least_atol == 0
    assert output.max_ulp in {0, None}
    assert output.worst is None


@given(st.sampled_from(ALL), SHAPES, st.data(), RULES)
def test_the_shortcut_for_identical_bits_changes_no_result(
    dtype: np.dtype[Any], shape: tuple[int, ...], data: st.DataObject, rule: Rule
) -> None:
    values = data.draw(arrays(dtype, shape))
    shortcut = compared(values, values.copy(), rule)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Pair, "identical", False)
        assert compared(values, values.copy(), rule) == shortcut


@given(pairs(FLOATS + NARROW + INTEGERS))
def test_ulp_and_absolute_difference_are_symmetric(pair: tuple[Array, Array]) -> None:
    one, other = pair
    forth, back = compared(one, other, Exact()), compared(other, one, Exact())
    assert (forth.max_ulp, forth.max_abs) == (back.max_ulp, back.max_abs)
    assert forth.mismatched == back.mismatched


def tight_and_wide(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.tuples(numbers, numbers).map(sorted)


STEPS, BOUNDS = tight_and_wide(st.integers(0, 2**64)), tight_and_wide(st.floats(0, 1e30))
WIDENED: st.SearchStrategy[tuple[Rule, Rule]] = st.one_of(
    STEPS.map(lambda n: (Ulp(n[0]), Ulp(n[1]))),
    BOUNDS.map(lambda n: (Scaled(n[0]), Scaled(n[1]))),
    st.tuples(BOUNDS, BOUNDS).map(lambda both: (Close(both[0][0], both[1][0]), Close(both[0][1], both[1][1]))),
)


@settings(max_examples=200)
@given(pairs(ALL), WIDENED)
def test_a_wider_tolerance_never_fails_what_a_tighter_one_passed(
    pair: tuple[Array, Array], rules: tuple[Rule, Rule]
) -> None:
    tight, wide = rules
    assert compared(*pair, wide).mismatched <= compared(*pair, tight).mismatched
    assert compared(*pair, tight).mismatched <= compared(*pair, Exact()).mismatched


@settings(max_examples=300)
@given(pairs(ALL))
def test_least_rtol_and_least_atol_are_really_the_least(pair: tuple[Array, Array]) -> None:
    output = compared(*pair, Exact())
    rules: list[tuple[float | None, Callable[[float], Rule]]] = [
        (output.least_rtol, lambda rtol: Close(rtol, 0.0)),
        (output.least_atol, lambda atol: Close(0.0, atol)),
    ]
    for least, rule in rules:
        assert least is not None
        if math.isinf(least):
            assert not compared(*pair, rule(sys.float_info.max)).passed
            continue
        assert compared(*pair, rule(least)).passed
        if least > 0:
            assert not compared(*pair, rule(math.nextafter(least, 0.0))).passed


@settings(max_examples=200)
@given(st.sampled_from(FLOATS), st.data(), st.integers(0, 40), st.booleans())
def test_ulp_is_the_count_of_next_numbers(dtype: np.dtype[Any], data: st.DataObject, count: int, up: bool) -> None:
    start = data.draw(arrays(dtype, (1,)))
    assume(finite(start))
    there = start.copy()
    for _ in range(count):
        there = np.nextafter(there, np.array([np.inf if up else -np.inf], dtype))
    assume(finite(there))
    output = compared(there, start, Ulp(count))
    assert output.max_ulp == count
    assert output.passed
    assert count == 0 or not compared(there, start, Ulp(count - 1)).passed


@given(st.sampled_from(FLOATS), st.data())
def test_crossing_zero_counts_the_numbers_on_both_sides(dtype: np.dtype[Any], data: st.DataObject) -> None:
    value = data.draw(arrays(dtype, (1,)))
    assume(finite(value))
    from_zero = compared(value, np.zeros(1, dtype), Exact()).max_ulp
    assert from_zero is not None
    assert compared(value, -value, Exact()).max_ulp == 2 * from_zero
    assert compared(value, np.array([-0.0], dtype), Exact()).max_ulp == from_zero


@settings(max_examples=200)
@given(st.sampled_from(ALL), SHAPES.filter(lambda shape: 0 not in shape), st.data(), RULES)
def test_one_value_beyond_the_tolerance_fails_and_is_located(
    dtype: np.dtype[Any], shape: tuple[int, ...], data: st.DataObject, rule: Rule
) -> None:
    expected = data.draw(arrays(dtype, shape))
    at = tuple(data.draw(st.integers(0, extent - 1)) for extent in shape)
    actual = expected.copy()
    actual[at] = data.draw(arrays(dtype, (1,)))[0]
    alone = compared(actual[at].reshape(1), expected[at].reshape(1), rule)
    output = compared(actual, expected, rule)
    assert output.passed == alone.passed
    if not alone.passed:
        assert (output.mismatched, output.worst) == (1, at)
        assert output.problem is not None
        place = f"; worst at {list(at)}: " if at else "than the tolerance: "
        assert (place if finite(actual[at]) and finite(expected[at]) else f"; first at {list(at)}") in output.problem


@given(pairs(ALL), st.sampled_from(ALL + UNLIKE), SHAPES)
def test_another_shape_or_dtype_never_passes(
    pair: tuple[Array, Array], dtype: np.dtype[Any], shape: tuple[int, ...]
) -> None:
    one, other = pair[0], np.zeros(shape, dtype)
    assume((one.shape, one.dtype) != (other.shape, other.dtype))
    for actual, expected in ((one, other), (other, one)):
        output = compared(actual, expected, Close(1e300, 1e300))
        assert not output.passed
        assert "expected" in (output.problem or "")


@given(pairs(FLOATS + INTEGERS), st.data(), RULES)
def test_undefined_values_do_not_change_the_result_for_the_rest(
    pair: tuple[Array, Array], data: st.DataObject, rule: Rule
) -> None:
    one, other = pair
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=one.size, max_size=one.size)), bool).reshape(one.shape)
    masked, rest = compared(one, other, rule, undefined=[mask]), compared(one[~mask], other[~mask], rule)
    assert (masked.passed, masked.mismatched, masked.of) == (rest.passed, rest.mismatched, rest.of)
    assert (masked.max_abs, masked.max_ulp) == (rest.max_abs, rest.max_ulp)
    assert masked.worst is None or not mask[masked.worst]
