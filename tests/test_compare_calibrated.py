"""The calibrated rule: the target's error against float64 may be a factor times the reference's, and no larger."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.compare.calibrated import FLOOR_RMS, FUNCTION_ERRORS, close_to_reference, counted_values
from harness.compare.verdict import Comparison, compare
from harness.spec.language.tolerances import Calibrated, Close, Tolerance

Array = NDArray[Any]
RULE = Tolerance(Calibrated(3.0))
EPS = 2.0**-23


def three_way(target: Array, reference: Array, float64: Array | None) -> Comparison:
    return compare({"y": target}, {"y": reference}, RULE, float64=None if float64 is None else {"y": float64})


def outputs(size: int, scale: float = 1.0, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0, scale, size)


def with_errors(float64: Array, rms: float, seed: int) -> Array:
    """Return ``float64`` with errors of RMS ``rms`` relative to its RMS, rounded to float32."""
    errors = np.random.default_rng(seed).normal(0, 1, float64.shape)
    errors *= rms * np.sqrt(np.mean(float64**2) / np.mean(errors**2))
    return (float64 + errors).astype(np.float32)


@given(scale=st.floats(1e-12, 1e12), size=st.integers(256, 2000), seed=st.integers(0, 100))
def test_two_runs_of_the_same_accuracy_agree_at_any_scale(scale: float, size: int, seed: int) -> None:
    float64 = outputs(size, scale, seed)
    comparison = three_way(with_errors(float64, 5e-7, seed + 1), with_errors(float64, 5e-7, seed + 2), float64)
    assert comparison.passed, comparison.message


@given(scale=st.floats(1e-12, 1e12), size=st.integers(256, 2000), seed=st.integers(0, 100))
def test_four_times_the_error_of_the_reference_is_too_much_at_any_scale(scale: float, size: int, seed: int) -> None:
    float64 = outputs(size, scale, seed)
    comparison = three_way(with_errors(float64, 2e-6, seed + 1), with_errors(float64, 5e-7, seed + 2), float64)
    assert not comparison.passed
    assert "times the reference's own" in comparison.message


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_in_half_precision_the_factor_is_larger(dtype: str) -> None:
    """Correct exports of mobilenet_v3_small in float16 have 3.3 times the error of eager torch."""
    half = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    float64 = outputs(5000)
    eps = float(ml_dtypes.finfo(half).eps)  # type: ignore[no-untyped-call]
    reference = with_errors(float64, 2 * eps, 1).astype(half)
    assert three_way(with_errors(float64, 2 * 4 * eps, 2).astype(half), reference, float64).passed
    assert not three_way(with_errors(float64, 2 * 5 * eps, 2).astype(half), reference, float64).passed


def test_one_wrong_value_among_many_fails() -> None:
    float64 = outputs(10_000)
    target, reference = with_errors(float64, 3e-7, 1), with_errors(float64, 3e-7, 2)
    target[17] += np.float32(2e-5)
    (output,) = three_way(target, reference, float64).outputs
    assert output.mismatched == 1
    assert output.worst == (17,)


def test_a_small_error_everywhere_fails_although_no_single_value_does() -> None:
    float64 = outputs(10_000)
    reference = with_errors(float64, 3e-7, 2)
    target = (float64 + np.where(np.arange(10_000) % 2, 1.2e-6, -1.2e-6)).astype(np.float32)
    (output,) = three_way(target, reference, float64).outputs
    assert output.mismatched == 0
    assert output.problem is not None
    assert "RMS error" in output.problem


def test_the_errors_are_reported() -> None:
    float64 = outputs(1000)
    (output,) = three_way(with_errors(float64, 4e-7, 1), with_errors(float64, 2e-7, 2), float64).outputs
    assert output.rms == pytest.approx(4e-7, rel=0.1)
    assert output.reference_rms == pytest.approx(2e-7, rel=0.1)


def test_a_reference_that_is_exact_by_luck_allows_a_few_roundings() -> None:
    float64 = outputs(1000).astype(np.float32).astype(np.float64)
    exact = float64.astype(np.float32)
    assert three_way(with_errors(float64, 0.8 * FLOOR_RMS["float32"] * EPS, 1), exact, float64).passed
    assert not three_way(with_errors(float64, 3 * FLOOR_RMS["float32"] * EPS, 1), exact, float64).passed


def test_an_error_that_was_measured_on_few_values_is_known_less_well() -> None:
    """A scalar loss: the reference may be exact, and a correct target a few eps away."""
    float64 = np.array([0.7231984734])
    reference = float64.astype(np.float32)
    assert three_way((float64 * (1 + 6 * EPS)).astype(np.float32), reference, float64).passed
    assert not three_way((float64 * (1 + 1e-4)).astype(np.float32), reference, float64).passed


def test_where_float64_computes_something_else_the_plain_comparison_decides() -> None:
    """As with ``masked_fill(finfo(x.dtype).min)``: the float64 run computes other values than the float32 run."""
    reference = outputs(1000).astype(np.float32)
    float64 = outputs(1000, seed=5)
    same = three_way(reference * np.float32(1 + EPS), reference, float64)
    assert same.passed
    assert any("which is no rounding" in note for note in same.notes)
    assert not three_way(reference * np.float32(1.001), reference, float64).passed
    assert not three_way(float64.astype(np.float32), reference, float64).passed


@pytest.mark.parametrize("float64", [None, np.full(1000, np.inf), np.zeros((2, 500))], ids=["none", "inf", "shape"])
def test_without_a_usable_float64_reference_the_plain_comparison_decides(float64: Array | None) -> None:
    reference = outputs(1000).astype(np.float32)
    assert three_way(reference, reference, float64).passed
    assert not three_way(reference * np.float32(1.001), reference, float64).passed


def test_nan_and_infinities_are_compared_by_position() -> None:
    float64 = outputs(100)
    reference = with_errors(float64, 3e-7, 1)
    target = with_errors(float64, 3e-7, 2)
    reference[3] = target[3] = float64[3] = np.nan
    assert three_way(target, reference, float64).passed
    target[3] = 0
    assert "expected NaN" in three_way(target, reference, float64).message


def test_tiny_outputs_are_judged_by_their_own_scale() -> None:
    """An ``atol`` of 1e-5 would pass any output near 1e-9."""
    float64 = outputs(1000, 1e-9)
    reference = with_errors(float64, 5e-7, 1)
    assert not three_way(np.zeros(1000, np.float32), reference, float64).passed
    assert not three_way(reference * np.float32(1.01), reference, float64).passed


def test_a_reference_with_large_errors_makes_the_pass_inconclusive() -> None:
    """Activations of a half-precision network underflow, so the reference itself has a large error."""
    float64 = outputs(1000)
    errors = np.random.default_rng(1).normal(0, 0.2, (2, 1000))
    target, reference = (float64 + errors[0]).astype(np.float16), (float64 + errors[1]).astype(np.float16)
    (output,) = three_way(target, reference, float64).outputs
    assert output.problem is None
    assert output.inconclusive is not None
    assert "would pass too" in output.inconclusive


def test_integers_stay_exact() -> None:
    expected = np.arange(10)
    assert three_way(expected, expected, expected.astype(np.float64)).passed
    assert not three_way(expected + (expected == 3), expected, expected.astype(np.float64)).passed


def test_an_atol_for_other_readers_covers_what_the_rule_allows() -> None:
    float64 = outputs(1000)
    reference = with_errors(float64, 5e-7, 1)
    close = close_to_reference(reference, float64, Calibrated(3.0))
    assert isinstance(close, Close)
    assert close.rtol == 0
    assert 1e-6 < close.atol < 3e-5


FORMATS = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
DTYPES = pytest.mark.parametrize("dtype", FORMATS)
# As docs/tolerances.md gives them.
IN_RMS = {"float32": 2.0, "float16": 1.0, "bfloat16": 1.0}
AT_ONE_VALUE = {"float32": 6.0, "float16": 2.0, "bfloat16": 2.0}
NO_ROUNDING = {"float32": 1e-3, "float16": 0.5, "bfloat16": 0.5}
WORST_RATIO = 2.0


def rounded(values: Array, dtype: str) -> Array:
    result: Array = values.astype(FORMATS[dtype])
    return result


def eps_of(dtype: str) -> float:
    return float(ml_dtypes.finfo(FORMATS[dtype]).eps)  # type: ignore[no-untyped-call]


@DTYPES
def test_an_exact_reference_allows_the_floor_in_rms_and_no_more(dtype: str) -> None:
    float64 = rounded(outputs(2000), dtype).astype(np.float64)
    errors = np.random.default_rng(1).uniform(-np.sqrt(3), np.sqrt(3), 2000) * eps_of(dtype) * IN_RMS[dtype]
    below, above = (three_way(rounded(float64 + n * errors, dtype), rounded(float64, dtype), float64) for n in (0.8, 2))
    assert below.passed, below.message
    assert not below.notes, "the plain rule was not needed"
    assert "RMS error" in above.message


@DTYPES
def test_an_exact_reference_allows_the_floor_at_one_value_and_no_more(dtype: str) -> None:
    float64 = rounded(outputs(2000), dtype).astype(np.float64)
    largest = int(np.abs(float64).argmax())

    def off_by(share: float) -> Comparison:
        target = float64.copy()
        target[largest] *= 1 - share * AT_ONE_VALUE[dtype] * eps_of(dtype)
        return three_way(rounded(target, dtype), rounded(float64, dtype), float64)

    assert off_by(0.8).passed
    assert off_by(1.3).outputs[0].mismatched == 1


def test_one_value_may_be_off_by_the_worst_error_of_the_reference_times_the_factor_and_the_ratio() -> None:
    """Half and double the factor are too far from it to be the rule."""
    float64 = rounded(outputs(10_000), "float32").astype(np.float64)
    reference = float64.copy()
    reference[5] += 1e-4

    def off_by(times: float) -> Comparison:
        target = float64.copy()
        target[17] += times * 1e-4
        return three_way(rounded(target, "float32"), rounded(reference, "float32"), float64)

    (output,) = off_by(0.95 * WORST_RATIO * 3.0).outputs
    assert output.mismatched == 0
    (output,) = off_by(1.05 * WORST_RATIO * 3.0).outputs
    assert output.worst == (17,)
    assert output.mismatched == 1


@DTYPES
def test_the_largest_rounding_of_a_dtype_divides_the_calibrated_from_the_plain_rule(dtype: str) -> None:
    float64 = outputs(2000)
    signs = np.where(np.arange(2000) % 2, 1.0, -1.0)

    def notes(share: float) -> tuple[str, ...]:
        scale = np.sqrt(np.mean(float64**2))
        reference = rounded(float64 + share * NO_ROUNDING[dtype] * scale * signs, dtype)
        return three_way(reference, reference, float64).notes

    assert notes(0.8) == ()
    assert "which is no rounding" in notes(1.3)[0]


@pytest.mark.parametrize(("scale", "spread", "reason"), [(1.0, 1e-5, "the mean"), (1e3, 1e-4, None), (1.0, 1.0, None)])
def test_an_output_that_hardly_varies_is_inconclusive_where_its_mean_would_pass(
    scale: float, spread: float, reason: str | None
) -> None:
    """A variation of less than a few roundings of the values is none that could be lost."""
    float64 = scale + outputs(1000, spread)
    errors = np.where(np.arange(1000) % 2, 1.0, -1.0) * min(spread, 1e-5 * scale)
    reference = (float64 + errors).astype(np.float32)
    (output,) = three_way((float64 - errors).astype(np.float32), reference, float64).outputs
    assert output.problem is None
    assert (output.inconclusive or "").endswith("everywhere (the mean) would pass too") == (reason is not None)
    assert (output.inconclusive is None) == (reason is None)


def test_an_rms_error_is_known_as_well_as_the_values_that_make_it_up() -> None:
    """In a softmax the errors of the few large probabilities are nearly all of the error."""
    normal = outputs(100_000)
    assert counted_values(normal) == pytest.approx(normal.size, rel=0.05)
    float64 = np.full(100_000, 1e-7)
    float64[:10] = 0.5

    def off_by(times: float, seed: int) -> Array:
        errors = np.zeros(float64.size)
        errors[:10] = times * 1e-6 * np.where(np.random.default_rng(seed).normal(size=10) > 0, 1.0, -1.0)
        return (float64 + errors).astype(np.float32)

    assert counted_values(off_by(1, 1) - float64) == pytest.approx(30, rel=0.1)
    assert three_way(off_by(4, 2), off_by(1, 1), float64).passed
    assert not three_way(off_by(5, 2), off_by(1, 1), float64).passed
    assert not three_way(with_errors(float64, 4.5e-6, 2), with_errors(float64, 1e-6, 1), float64).passed


@pytest.mark.parametrize("times", [0.9, 1.1])
def test_a_sigmoid_near_zero_may_be_off_by_the_error_of_its_kernels(times: float) -> None:
    float64 = np.exp(outputs(2000) - 25)
    target = (float64 + times * FUNCTION_ERRORS["Sigmoid"]).astype(np.float32)
    reference = float64.astype(np.float32)
    assert not three_way(target, reference, float64).passed
    rule = Tolerance(Calibrated(function="Sigmoid"))
    comparison = compare({"y": target}, {"y": reference}, rule, float64={"y": float64})
    assert comparison.passed == (times < 1)
    assert comparison.outputs[0].tolerance.endswith("or the error of a Sigmoid kernel")


@pytest.mark.parametrize("size", [1e-120, 1.0, 1e120])
def test_how_many_values_count_does_not_depend_on_the_size_of_the_errors(size: float) -> None:
    assert counted_values(np.array([0.0, 0.0, size, size])) == pytest.approx(4)
    assert counted_values(np.array([0.0] * 96 + [size] * 4)) == pytest.approx(12)
