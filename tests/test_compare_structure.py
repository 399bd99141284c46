"""Structure before numbers: the false passes of other tools fail here."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from harness.compare.verdict import compare, exchanged_outputs
from harness.spec.language.tolerances import Close, Exact, Rule, Scaled, Tolerance, Ulp

ANY: Rule = Close(1e300, 1e300)
f32 = np.float32


def floats(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype=f32)


def test_an_output_missing_on_one_side_is_reported() -> None:
    comparison = compare({"output_0": floats(1)}, {"output_0": floats(1), "output_1": floats(2)}, Tolerance(ANY))
    assert not comparison.passed
    assert comparison.problems == ("1 output, expected 2", "output_1 is missing")
    assert comparison.outputs[0].passed


def test_an_extra_output_is_reported() -> None:
    comparison = compare({"output_0": floats(1), "output_1": floats(2)}, {"output_0": floats(1)}, Tolerance(ANY))
    assert not comparison.passed
    assert comparison.problems == ("2 outputs, expected 1", "output_1 is not an output of the reference")


def test_outputs_are_paired_by_name_and_never_by_position() -> None:
    comparison = compare({"y": floats(1)}, {"output_0": floats(1)}, Tolerance(ANY))
    assert comparison.problems == ("output_0 is missing", "y is not an output of the reference")
    assert comparison.outputs == ()


def test_another_order_is_wrong_and_outputs_are_still_paired_by_name() -> None:
    comparison = compare({"b": floats(2), "a": floats(1)}, {"a": floats(1), "b": floats(2)}, Tolerance(Exact()))
    assert comparison.problems == ("the order of the outputs is b, a; expected a, b",)
    assert [output.passed for output in comparison.outputs] == [True, True]
    assert not comparison.passed


def test_no_outputs_at_all_is_not_a_pass() -> None:
    comparison = compare({}, {}, Tolerance(Exact()))
    assert not comparison.passed
    assert "nothing was compared" in comparison.message


@pytest.mark.parametrize("other", ["int64", "float64", "float16", "int32", "bool", ml_dtypes.bfloat16])
def test_another_dtype_with_equal_values_fails(other: Any) -> None:
    comparison = compare({"o": floats(0, 1).astype(other)}, {"o": floats(0, 1)}, Tolerance(ANY))
    assert comparison.message == f"o: dtype {np.dtype(other).name}, expected float32"


@pytest.mark.parametrize(
    ("actual", "expected"),
    [((4,), (1,)), ((1,), (4,)), ((1, 4), (4,)), ((), (1,)), ((2, 3), (3, 2)), ((0,), (0, 1)), ((0,), (4,))],
)
def test_another_shape_fails_though_it_would_broadcast(actual: tuple[int, ...], expected: tuple[int, ...]) -> None:
    comparison = compare({"o": np.ones(actual, f32)}, {"o": np.ones(expected, f32)}, Tolerance(ANY))
    assert comparison.message == f"o: shape {actual}, expected {expected}"


def test_shape_and_dtype_are_both_reported() -> None:
    comparison = compare({"o": np.ones((2, 3))}, {"o": np.ones((2, 4), f32)}, Tolerance(ANY))
    assert comparison.message == "o: shape (2, 3), expected (2, 4); dtype float64, expected float32"


def test_an_empty_batch_passes_by_shape_and_dtype_with_a_note() -> None:
    empty = np.empty((0, 3), f32)
    comparison = compare({"o": empty}, {"o": empty.copy()}, Tolerance(Exact()))
    assert comparison.passed
    assert comparison.outputs[0].of == 0
    assert comparison.notes == ("o: the output has no elements; only shape and dtype were compared",)
    assert not compare({"o": np.empty((0, 4), f32)}, {"o": empty}, Tolerance(Exact())).passed
    assert not compare({"o": np.empty((0, 3))}, {"o": empty}, Tolerance(Exact())).passed


def test_nan_against_a_number_is_reported_with_index_and_count() -> None:
    expected = np.arange(12, dtype=f32).reshape(3, 4)
    actual = expected.copy()
    actual[0, 1] = actual[2, 0] = actual[2, 3] = np.nan
    comparison = compare({"o": actual}, {"o": expected}, Tolerance(ANY))
    output = comparison.outputs[0]
    assert output.problem == "3 of 12 values are NaN, expected finite; first at [0, 1]"
    assert (output.mismatched, output.of, output.worst) == (3, 12, (0, 1))
    assert output.least_rtol == output.least_atol == np.inf
    assert np.isnan(output.actual_at_worst or 0)
    assert output.max_abs == 0


@pytest.mark.parametrize(
    ("actual", "expected", "classes"),
    [
        (1.0, np.nan, "finite, expected NaN"),
        (np.inf, -np.inf, "+inf, expected -inf"),
        (-np.inf, np.inf, "-inf, expected +inf"),
        (np.inf, 3e38, "+inf, expected finite"),
        (-3.4028e38, -np.inf, "finite, expected -inf"),
        (np.nan, np.inf, "NaN, expected +inf"),
    ],
)
@pytest.mark.parametrize("rule", [ANY, Ulp(2**70), Scaled(1e30)])
def test_the_positions_of_nan_and_infinities_count_under_every_rule(
    actual: float, expected: float, classes: str, rule: Rule
) -> None:
    comparison = compare(
        {"o": floats(1, actual)}, {"o": floats(1, expected)}, Tolerance(rule), magnitudes=[np.full(2, 1e30)]
    )
    assert comparison.message == f"o: 1 of 2 values is {classes}; first at [1]"


def test_each_combination_of_classes_is_one_sentence_and_numbers_are_compared_too() -> None:
    comparison = compare(
        {"o": floats(np.nan, np.inf, 2, np.nan)}, {"o": floats(1, -np.inf, 1, np.nan)}, Tolerance(Exact())
    )
    problem = comparison.outputs[0].problem or ""
    assert "1 of 4 values is NaN, expected finite; first at [0]" in problem
    assert "1 of 4 values is +inf, expected -inf; first at [1]" in problem
    assert "1 of 4 values differs by more than the tolerance; worst at [2]: 2, expected 1 (100 % off)" in problem
    assert comparison.outputs[0].mismatched == 3


def test_combinations_that_share_a_class_are_counted_and_located_each_for_itself() -> None:
    actual, expected = floats(np.nan, np.nan, np.nan, 0, np.inf), floats(1, np.inf, np.inf, np.nan, np.nan)
    problem = compare({"o": actual}, {"o": expected}, Tolerance(Exact())).outputs[0].problem or ""
    assert problem.split("; ")[::2] == [
        "1 of 5 values is finite, expected NaN",
        "1 of 5 values is NaN, expected finite",
        "2 of 5 values are NaN, expected +inf",
        "1 of 5 values is +inf, expected NaN",
    ]
    assert problem.split("; ")[1::2] == ["first at [3]", "first at [0]", "first at [1]", "first at [4]"]


def test_nan_and_infinities_in_the_same_positions_agree() -> None:
    values = floats(np.nan, np.inf, -np.inf, 1)
    comparison = compare({"o": values}, {"o": values.copy()}, Tolerance(Exact()))
    assert comparison.passed
    assert comparison.outputs[0].of == 4
    nothing_finite = compare({"o": values[:3]}, {"o": values[:3].copy()}, Tolerance(Exact()))
    assert nothing_finite.passed
    assert nothing_finite.notes == ("o: no value is finite; only the positions of NaN and infinities were compared",)


def test_undefined_values_are_excluded_counted_and_noted() -> None:
    mask = np.array([[True, False], [False, False]])
    actual, expected = floats(9, 1, 2, 3).reshape(2, 2), floats(np.nan, 1, 2, 3).reshape(2, 2)
    comparison = compare({"o": actual}, {"o": expected}, Tolerance(Exact()), undefined=[mask])
    assert comparison.passed
    assert comparison.outputs[0].of == 3
    assert comparison.notes == ("o: 1 of 4 values is undefined by the layer and was not compared",)
    actual[1, 0] = 7
    wrong = compare({"o": actual}, {"o": expected}, Tolerance(Exact()), undefined=[mask]).outputs[0]
    assert (wrong.worst, wrong.actual_at_worst, wrong.expected_at_worst) == ((1, 0), 7, 2)


def test_everything_undefined_is_not_a_pass() -> None:
    mask = np.ones(2, bool)
    comparison = compare({"o": floats(1, 2)}, {"o": floats(1, 2)}, Tolerance(Exact()), undefined=[mask])
    assert not comparison.passed
    assert "nothing was compared" in comparison.message
    beside = compare(
        {"o": floats(1, 2), "p": floats(1)}, {"o": floats(3, 4), "p": floats(1)}, Tolerance(Exact()), undefined=[mask]
    )
    assert beside.passed
    assert "o: 2 of 2 values are undefined" in beside.notes[0]


def test_masks_and_magnitudes_of_another_shape_raise() -> None:
    with pytest.raises(ValueError, match=r"o: undefined has shape \(1,\), the reference has shape \(2,\)"):
        compare({"o": floats(1, 2)}, {"o": floats(1, 2)}, Tolerance(Exact()), undefined=[np.array([True])])
    with pytest.raises(ValueError, match=r"o: magnitudes has shape \(\), the reference has shape \(2,\)"):
        compare({"o": floats(1, 2)}, {"o": floats(1, 2)}, Tolerance(Scaled(1)), magnitudes=[np.array(1.0)])
    with pytest.raises(ValueError, match="undefined has dtype int64, it must be bool"):
        compare({"o": floats(1)}, {"o": floats(1)}, Tolerance(Exact()), undefined=[np.zeros(1, np.int64)])


@pytest.mark.parametrize("dtype", ["complex64", "longdouble", "datetime64[s]", [("a", "f4")]])
def test_dtypes_that_cannot_be_compared_never_pass(dtype: Any) -> None:
    values = np.zeros(2, dtype)
    comparison = compare({"o": values}, {"o": values.copy()}, Tolerance(ANY))
    assert "cannot be compared; expected real numbers of at most 64 bits, or text" in comparison.message


@pytest.mark.parametrize("dtype", [ml_dtypes.float4_e2m1fn, ml_dtypes.float8_e8m0fnu])
def test_neighbours_of_a_float_without_sign_or_of_half_a_byte_are_one_ulp_apart(dtype: Any) -> None:
    patterns = np.arange(8, dtype=np.uint8)
    values = patterns.view(dtype)
    (output,) = compare({"o": values[1:]}, {"o": values[:-1]}, Tolerance(Exact())).outputs
    assert (output.max_ulp, output.mismatched, output.of) == (1, 7, 7)


def test_the_two_zeros_of_half_a_byte_are_equal() -> None:
    zeros = np.array([0, 8], np.uint8).view(ml_dtypes.float4_e2m1fn)
    assert compare({"o": zeros[:1]}, {"o": zeros[1:]}, Tolerance(Exact())).passed


def test_text_is_compared_by_equality() -> None:
    words = np.array(["a", "longer"])
    assert compare({"o": words.astype(object)}, {"o": words}, Tolerance(ANY)).passed
    wrong = compare({"o": np.array(["a", "b"])}, {"o": words}, Tolerance(ANY))
    assert wrong.message == "o: 1 of 2 values differs; first at [1]: 'b', expected 'longer'"
    assert not compare({"o": np.array([None], object)}, {"o": np.array([None], object)}, Tolerance(ANY)).passed
    assert not compare({"o": words.astype(bytes)}, {"o": words}, Tolerance(ANY)).passed


def test_byte_order_and_memory_layout_do_not_count() -> None:
    values = np.arange(24, dtype=f32).reshape(2, 3, 4)
    assert compare({"o": values.astype(">f4")}, {"o": values}, Tolerance(Exact())).passed
    strided = np.asfortranarray(values)
    assert compare({"o": strided}, {"o": values}, Tolerance(Exact())).passed
    wrong = values.copy()
    wrong[1, 0, 2] += 1
    assert compare({"o": np.asfortranarray(wrong)}, {"o": values}, Tolerance(Exact())).outputs[0].worst == (1, 0, 2)


def test_the_worst_comes_first_in_the_message_and_the_shapes_are_named() -> None:
    comparison = compare(
        {"a": floats(1, 2), "b": floats(1, 2, 3)}, {"a": floats(1, 3), "b": floats(1, 2)}, Tolerance(ANY), at="x=[2]"
    )
    assert comparison.message == "at x=[2]: b: shape (3,), expected (2,)"
    assert [output.at for output in comparison.outputs] == ["x=[2]", "x=[2]"]
    several = compare(
        {"a": floats(1, 2), "b": floats(2, 3)}, {"a": floats(1, 3), "b": floats(1, 2)}, Tolerance(Exact())
    )
    assert several.message.startswith("b: 2 of 2 values differ by more than the tolerance")
    assert several.message.endswith("(and 1 more)")


@pytest.mark.parametrize("count", [2, 8, 9])
def test_another_order_of_up_to_eight_outputs_is_reported(count: int) -> None:
    expected = {f"output_{index}": floats(index, index + 0.5) for index in range(count)}
    turned = dict(zip(expected, [*list(expected.values())[1:], expected["output_0"]], strict=True))
    message = exchanged_outputs(turned, expected)
    assert (message is not None) is (count <= 8)
    assert message is None or message.startswith(
        "the outputs are in another order (output_0 holds what is expected of output_1"
    )
    assert exchanged_outputs({**turned, "output_0": floats(-1, -1)}, expected) is None
