"""The windows of a pool, compared with eager torch: output sizes, and the arguments that torch refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.layers import output_size
from harness.layers._windows import Geometry, per_axis

length = st.integers(0, 5)


@settings(max_examples=400)
@given(n=st.integers(1, 9), k=length, s=length, p=st.integers(-1, 3), d=st.integers(0, 3), ceil_mode=st.booleans())
def test_output_sizes_and_refusals_are_those_of_torch(n: int, k: int, s: int, p: int, d: int, ceil_mode: bool) -> None:
    try:
        actual: int | None = output_size((n,), (k,), (s,), (p,), (d,), ceil_mode=ceil_mode)[0]
    except ValueError:
        actual = None
    try:
        pooled = torch.nn.functional.max_pool2d(torch.ones(1, 1, n), (1, k), (1, s), (0, p), (1, d), ceil_mode)
        expected: int | None = pooled.shape[-1]
    except RuntimeError:
        expected = None
    assert actual == expected


@pytest.mark.parametrize(
    ("n", "k", "s", "p", "ceil_mode", "expected"),
    [
        (5, 2, 2, 0, False, 2),
        (5, 2, 2, 0, True, 3),
        (2, 1, 2, 0, True, 1),  # a second window would start to the right of the plane
        (4, 3, 2, 1, True, 3),
        (512, 2, 2, 0, False, 256),
    ],
)
def test_sizes_by_hand(n: int, k: int, s: int, p: int, ceil_mode: bool, expected: int) -> None:
    assert output_size((n,), (k,), (s,), (p,), (1,), ceil_mode=ceil_mode) == (expected,)


@pytest.mark.parametrize(
    ("k", "s", "p", "d", "message"),
    [
        (2, 2, 2, 1, "padding 2 for a kernel of 2; expected 0 to 1"),
        (9, 1, 0, 1, "the window spans 9 elements; an axis of 4 with padding 0 has room for at most 4"),
        (2, 0, 0, 1, "stride 0"),
    ],
)
def test_a_refusal_says_what_is_expected(k: int, s: int, p: int, d: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        output_size((4,), (k,), (s,), (p,), (d,))


def test_one_number_applies_to_every_axis() -> None:
    assert per_axis(2, 3) == per_axis([2], 3) == (2, 2, 2)
    assert per_axis((1, 2), 2) == (1, 2)
    with pytest.raises(ValueError, match="has 3 numbers; expected 1 or 2"):
        per_axis([1, 2, 3], 2)


def test_windows_are_the_same_if_they_have_the_same_elements() -> None:
    plane = (4, 4)
    plain = Geometry.of({"kernel_size": 2}, 2).windows(plane)
    assert plain.same_as(Geometry.of({"kernel_size": (2, 2), "stride": 2, "ceil_mode": True}, 2).windows(plane))
    assert not plain.same_as(Geometry.of({"kernel_size": 2, "padding": 1}, 2).windows(plane))
    assert not plain.same_as(Geometry.of({"kernel_size": 2, "dilation": (1, 2)}, 2).windows(plane))


def test_a_window_that_is_cut_is_not_the_one_that_continues_with_the_next_element() -> None:
    cut, whole = ({"kernel_size": 2, "stride": 2, "padding": 1}, {"kernel_size": 2, "stride": 1})
    first, second = (Geometry.of(args, 1).windows((3,)) for args in (cut, whole))
    assert not first.same_as(second), "{0} and {1, 2}, against {0, 1} and {1, 2}"
