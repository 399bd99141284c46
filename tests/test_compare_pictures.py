"""Pictures of the differences: they show the right plane, and averaging hides no error."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.compare.pictures import MAX_SIDE, picture, pictures
from harness.compare.verdict import compare
from harness.spec.language.tolerances import Exact, Tolerance

Array = NDArray[Any]


def test_a_small_plane_is_shown_element_by_element() -> None:
    expected = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    actual = expected.copy()
    actual[0, 1, 2, 0] += 0.5
    drawn = picture(actual, expected, (0, 1, 2, 0))
    assert (drawn["shape"], drawn["plane"], drawn["worst"]) == ([3, 4], [3, 4], [2, 0])
    assert drawn["title"] == "[0, 1, :, :] of [1, 2, 3, 4]"
    assert drawn["expected"] == expected[0, 1].tolist()
    assert drawn["actual"] == actual[0, 1].tolist()
    assert drawn["error"] == [[0, 0, 0, 0], [0, 0, 0, 0], [0.5, 0, 0, 0]]


@given(st.integers(1, 100), st.integers(1, 100), st.data())
def test_one_wrong_element_is_shown_exactly_in_a_plane_of_any_size(h: int, w: int, data: st.DataObject) -> None:
    at = (data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1)))
    expected = np.linspace(-1, 1, h * w).reshape(h, w)
    actual = expected.copy()
    actual[at] += 0.25
    drawn = picture(actual, expected, at)
    rows, columns = drawn["shape"]
    assert (rows, columns) == (min(h, MAX_SIDE), min(w, MAX_SIDE))
    off = {(row, column) for row in range(rows) for column in range(columns) if drawn["error"][row][column]}
    row, column = drawn["worst"]
    assert off == {(row, column)}
    assert drawn["error"][row][column] == 0.25
    assert drawn["actual"][row][column] == pytest.approx(actual[at], rel=1e-8)
    assert drawn["expected"][row][column] == pytest.approx(expected[at], rel=1e-8)


def test_the_worst_is_shown_even_if_another_value_of_its_block_has_a_larger_error() -> None:
    expected = np.full((64, 64), 1e-6)
    expected[0, 0] = 100.0
    actual = expected + 0.0
    actual[0, 0] += 1.0  # a larger error, but within a relative tolerance
    actual[1, 1] = 0.0
    drawn = picture(actual, expected, (1, 1))
    assert drawn["worst"] == [0, 0]
    assert drawn["actual"][0][0] == 0.0
    assert drawn["title"].endswith("; each cell shows the largest error of up to 2 x 2 values")


def test_each_cell_shows_the_largest_error_of_its_block() -> None:
    expected = np.zeros((64, 1))
    actual = np.arange(64, dtype=float).reshape(64, 1)
    assert [row[0] for row in picture(actual, expected, (63, 0))["error"]] == list(range(1, 64, 2))


def test_nan_and_infinities_have_an_error_only_if_they_disagree() -> None:
    inf, nan = math.inf, math.nan
    expected = np.array([nan, nan, 1.0, inf, inf, -inf, -0.0])
    actual = np.array([nan, 1.0, nan, inf, -inf, 1.0, 0.0])
    drawn = picture(actual, expected, (1,))
    assert drawn["shape"] == [1, 7]
    assert drawn["error"] == [[0, inf, inf, 0, inf, inf, 0]]


def test_undefined_values_have_no_error_and_are_not_shown_for_a_block() -> None:
    expected, actual = np.zeros((64, 2)), np.zeros((64, 2))
    actual[0, :], actual[1, 0] = 9.0, 1.0
    undefined = np.zeros((64, 2), dtype=bool)
    undefined[0, :] = True
    drawn = picture(actual, expected, (1, 0), undefined)
    assert drawn["error"][0] == [1.0, 0.0]
    undefined[1, 1] = True
    assert math.isnan(picture(actual, expected, (1, 0), undefined)["error"][0][1])


@pytest.mark.parametrize("dtype", ["float16", "float64", "int64", "uint8", "bool", ml_dtypes.bfloat16, ml_dtypes.int4])
def test_every_dtype_of_real_numbers_can_be_drawn(dtype: Any) -> None:
    expected, actual = np.zeros((2, 2), dtype), np.zeros((2, 2), dtype)
    actual[1, 0] = 1
    drawn = picture(actual, expected, (1, 0))
    assert drawn["error"] == [[0, 0], [1, 0]]
    assert drawn["actual"] == [[0, 0], [1, 0]]


def test_neighbouring_huge_integers_are_not_equal() -> None:
    expected = np.array([2**62], dtype=np.int64)
    drawn = picture(expected + 1, expected, (0,))
    assert drawn["error"] == [[1]]
    assert drawn["actual"][0][0] - drawn["expected"][0][0] == 1


def test_a_single_number_and_a_vector_have_pictures() -> None:
    assert picture(np.array(1.0), np.array(2.0), ())["title"] == "a single number"
    assert picture(np.ones(5), np.zeros(5), (3,))["title"] == "[:] of [5]"
    assert picture(np.ones(100), np.zeros(100), (99,))["shape"] == [1, MAX_SIDE]


@pytest.mark.parametrize(
    ("actual", "expected", "worst"),
    [
        (np.ones((2, 2)), np.ones((2, 3)), (0, 0)),
        (np.ones((2, 2)), np.ones((2, 2)), (0,)),
        (np.array(["a"]), np.array(["b"]), (0,)),
        (np.ones(2, dtype=complex), np.ones(2, dtype=complex), (0,)),
    ],
)
def test_arrays_that_cannot_be_drawn_raise(actual: Array, expected: Array, worst: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot draw"):
        picture(actual, expected, worst)


def test_only_outputs_that_fail_by_their_numbers_are_drawn() -> None:
    expected = {"y": np.zeros(3), "z": np.zeros(3), "form": np.zeros(3), "text": np.array(["a"])}
    actual = {"y": np.zeros(3), "z": np.array([0.0, 2.0, 0.0]), "form": np.zeros(4), "text": np.array(["b"])}
    outputs = compare(actual, expected, Tolerance(Exact())).outputs
    (only,) = pictures(outputs, actual, expected)
    assert (only["output"], only["worst"], only["error"]) == (1, [0, 1], [[0.0, 2.0, 0.0]])
    undefined = [None, np.array([True, False, False])]
    assert math.isnan(pictures(outputs, actual, expected, undefined)[0]["error"][0][0])


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_without_a_place_the_picture_is_around_the_largest_error(lost: float) -> None:
    expected = np.zeros((2, 3, 4))
    actual = expected.copy()
    actual[0, 1, 1] = 5.0
    assert picture(actual, expected, None)["title"].startswith("[0, :, :]")
    actual[1, 2, 3] = lost
    shown = picture(actual, expected, None)
    assert (shown["title"], shown["worst"]) == ("[1, :, :] of [2, 3, 4]", [2, 3])
