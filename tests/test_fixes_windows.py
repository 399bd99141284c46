"""The window arithmetic of the corrected pools gives exactly PyTorch's windows."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn.functional import max_pool1d

from harness.fixes._windows import Axis, axes, pads

SIZES = st.integers(1, 14)


@st.composite
def pools(draw: st.DrawFn) -> tuple[int, int, int, int, bool, int]:
    """Kernel, stride, padding, dilation, ceil_mode and an input size that the window fits in."""
    kernel = draw(st.integers(1, 5))
    dilation = draw(st.integers(1, 3))
    padding = draw(st.integers(0, kernel // 2))
    size = draw(SIZES)
    assume(size + 2 * padding >= dilation * (kernel - 1) + 1)
    return kernel, draw(st.integers(1, 5)), padding, dilation, draw(st.booleans()), size


@given(pools())
def test_the_number_of_windows_is_pytorchs(pool: tuple[int, int, int, int, bool, int]) -> None:
    kernel, stride, padding, dilation, ceil_mode, size = pool
    axis, _ = axes([kernel], [stride], [padding], [dilation], ceil_mode)
    expected = max_pool1d(torch.zeros(1, 1, size), kernel, stride, padding, dilation, ceil_mode).shape[-1]
    assert axis.count(size) == expected


@given(pools())
def test_padding_and_slicing_by_it_give_pytorchs_maxima(pool: tuple[int, int, int, int, bool, int]) -> None:
    kernel, stride, padding, dilation, ceil_mode, size = pool
    axis, _ = axes([kernel], [stride], [padding], [dilation], ceil_mode)
    x = torch.randn(size, generator=torch.Generator().manual_seed(size))
    padded = np.pad(x.numpy(), (axis.padding, axis.padding + axis.overhang), constant_values=-np.inf)
    views: list[NDArray[np.float32]] = [
        padded[start : len(padded) - axis.last_offset + start : axis.stride]
        for start in range(0, axis.last_offset + 1, axis.dilation)
    ]
    expected = max_pool1d(x[None, None], kernel, stride, padding, dilation, ceil_mode)[0, 0]
    assert np.array_equal(np.maximum.reduce(views), expected.numpy())


def test_axes_of_the_arguments_of_torch() -> None:
    assert axes([3], (), [1], [1], ceil_mode=False) == (Axis(3, 3, 1, 1, 0), Axis(3, 3, 1, 1, 0))
    assert axes([3, 2], [2, 1], [1, 0], [2, 1], ceil_mode=True) == (Axis(3, 2, 1, 2, 1), Axis(2, 1, 0, 1, 0))
    assert pads(axes([1, 3], [2, 2], [0, 1], [1, 1], ceil_mode=True)) == [0, 1, 0, 2]
