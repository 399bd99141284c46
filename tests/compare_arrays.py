"""Hypothesis strategies for arrays of every dtype that can be compared, over all their bit patterns."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from harness.spec.language.tolerances import Close, Exact, Rule, Scaled, Ulp

Array = NDArray[Any]

FLOATS = [np.dtype(name) for name in ("float16", "float32", "float64")] + [np.dtype(ml_dtypes.bfloat16)]
NARROW = [np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(ml_dtypes.float8_e5m2), np.dtype(ml_dtypes.float8_e4m3fnuz)]
INTEGERS = [np.dtype(name) for name in ("bool", "int8", "uint8", "int16", "int32", "int64", "uint64")]
UNLIKE = [np.dtype(name) for name in ("complex64", "complex128", "longdouble")]

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.1, float("nan"), float("inf"), float("-inf"), 1e-45, 1e-7, 6e4, 1.7e308, -1.7e308]


@st.composite
def arrays(draw: st.DrawFn, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Any bit pattern, or a draw from values that are difficult to compare."""
    if dtype.kind in "biu":
        return draw(hnp.arrays(dtype, shape))
    if draw(st.booleans()):
        with np.errstate(all="ignore"):
            return draw(hnp.arrays(np.float64, shape, elements=st.sampled_from(SPECIAL))).astype(dtype)
    width = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[dtype.itemsize]
    return np.asarray(draw(hnp.arrays(width, shape))).view(dtype)


@st.composite
def pairs(draw: st.DrawFn, dtypes: list[np.dtype[Any]]) -> tuple[Array, Array]:
    """Two arrays of one dtype and shape; the second is often the first with one value changed."""
    dtype, shape = draw(st.sampled_from(dtypes)), draw(SHAPES)
    one = draw(arrays(dtype, shape))
    if draw(st.booleans()):
        return one, draw(arrays(dtype, shape))
    other = one.copy()
    if other.size:
        at = draw(st.integers(0, other.size - 1))
        other.reshape(-1)[at] = draw(arrays(dtype, (1,)))[0]
    return one, other


RULES: st.SearchStrategy[Rule] = st.one_of(
    st.just(Exact()),
    st.builds(Ulp, st.integers(0, 2**65)),
    st.builds(Close, st.floats(0, 1e300), st.floats(0, 1e300)),
    st.builds(Scaled, st.floats(0, 1e6)),
)
