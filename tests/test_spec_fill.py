from __future__ import annotations

import hashlib
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.spec.language.case import Fill, FillKind, TensorSpec
from harness.spec.language.inputs.fills import array, dtype_of

DTYPES = ("float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool")
PARAMETERS: dict[FillKind, tuple[float, ...]] = {
    "normal": (),
    "uniform": (-2.0, 3.0),
    "integers": (-3, 4),
    "arange": (),
    "ones": (),
    "zeros": (),
    "full": (3,),
    "choice": (1, 0, 1),
}


def filled(kind: FillKind, *parameters: float, dtype: str = "float32", count: int = 4000, seed: int = 1) -> Any:
    return array(TensorSpec("x", dtype, (count,), None, Fill(kind, parameters), seed=seed))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", list(PARAMETERS))
def test_every_fill_gives_its_dtype_and_shape(kind: FillKind, dtype: str) -> None:
    spec = TensorSpec("x", dtype, (2, 0, 3), None, Fill(kind, PARAMETERS[kind]))
    assert array(spec).shape == (2, 0, 3)
    spec = TensorSpec("x", dtype, (2, 3), None, Fill(kind, PARAMETERS[kind]))
    assert (array(spec).shape, array(spec).dtype) == ((2, 3), dtype_of(dtype))
    assert array(spec).flags.c_contiguous
    assert array(TensorSpec("x", dtype, (), None, Fill(kind, PARAMETERS[kind]))).shape == ()


def test_the_same_seed_draws_the_same_and_another_draws_another() -> None:
    kinds: list[FillKind] = ["normal", "uniform", "integers", "choice"]
    for kind in kinds:
        parameters = (0, 9) if kind != "normal" else ()
        assert np.array_equal(filled(kind, *parameters), filled(kind, *parameters))
        assert not np.array_equal(filled(kind, *parameters), filled(kind, *parameters, seed=2))


def test_each_call_returns_a_new_array() -> None:
    spec = TensorSpec("x", "float32", (2,), (1, 2))
    array(spec)[0] = 9
    assert array(spec)[0] == 1


PINNED = {
    ("normal", "float64"): "a232efd24283",
    ("normal", "float32"): "2a517e41efb6",
    ("uniform", "float64"): "310b3aea3563",
    ("integers", "int64"): "7a78f9aff03e",
    ("choice", "float32"): "7580e56a76d3",
}


@pytest.mark.parametrize(("kind", "dtype"), list(PINNED))
def test_the_bits_are_the_same_on_every_platform_and_in_every_release(kind: FillKind, dtype: str) -> None:
    drawn = filled(kind, *PARAMETERS[kind], dtype=dtype, seed=20240229)
    assert hashlib.sha256(drawn.astype(drawn.dtype.newbyteorder("<")).tobytes()).hexdigest()[:12] == PINNED[kind, dtype]


def test_normal_is_signed_and_normal() -> None:
    drawn = filled("normal", dtype="float64", count=20_000)
    assert abs(drawn.mean()) < 0.03
    assert abs(drawn.std() - 1) < 0.03
    assert stats.kstest(drawn, "norm").pvalue > 1e-4
    assert drawn.min() < -3
    assert drawn.max() > 3


@given(st.sampled_from([1, 2, 7, 5461, 5462, 32_768, 65_536, 65_537, 150_528]), st.integers(0, 2**32))
@settings(max_examples=30)
def test_each_normal_is_the_sum_of_twelve_uniforms_in_stream_order(count: int, seed: int) -> None:
    words = np.random.PCG64(seed).random_raw(12 * count).reshape(12, count)
    expected = np.full(count, -6.0)
    for term in words >> np.uint64(11):
        expected += term * 2.0**-53
    np.testing.assert_array_equal(filled("normal", dtype="float64", count=count, seed=seed), expected, strict=True)


def test_normal_uses_every_bit_of_the_mantissa() -> None:
    """Values on a coarse grid would add up exactly and hide the order of summation."""
    for dtype, mantissa in (("float32", 24), ("float64", 50)):
        drawn = filled("normal", dtype=dtype)
        mantissas = np.ldexp(np.frexp(drawn)[0].astype(np.float64), mantissa)
        odd = np.mod(mantissas, 2) != 0
        assert odd.mean() > 0.4


def test_uniform_stays_within_its_bounds_and_fills_them() -> None:
    drawn = filled("uniform", -2.0, 3.0, dtype="float64", count=20_000)
    assert drawn.min() >= -2
    assert drawn.max() <= 3
    assert stats.kstest(drawn, "uniform", args=(-2, 5)).pvalue > 1e-4
    assert (filled("uniform", 0.5, 0.5) == 0.5).all()
    assert np.isfinite(filled("uniform", -1.7e308, 1.7e308, dtype="float64")).all()


def test_integers_reach_both_ends_and_nothing_beyond() -> None:
    assert set(filled("integers", -3, 4).tolist()) == set(range(-3, 5))
    assert set(filled("integers", 250, 255, dtype="uint8").tolist()) == set(range(250, 256))
    assert (filled("integers", 7, 7) == 7).all()
    every = filled("integers", -(2**63), 2**63 - 1, dtype="int64")
    assert every.min() < -(2**62)
    assert every.max() > 2**62


def test_arange_counts_through_all_axes() -> None:
    spec = TensorSpec("x", "float32", (2, 3), None, Fill("arange"))
    assert array(spec).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_integer_dtypes_get_small_usable_integers() -> None:
    signed = filled("normal", dtype="int8")
    assert signed.min() < 0 < signed.max()
    assert len(set(signed.tolist())) > 20
    assert filled("normal", dtype="uint8").max() < 100
    assert 0.4 < filled("normal", dtype="bool").mean() < 0.6


def test_full_and_choice_keep_special_values() -> None:
    assert np.isnan(filled("full", math.nan)).all()
    assert np.signbit(filled("full", -0.0)).all()
    chosen = filled("choice", math.nan, -0.0, math.inf, -math.inf)
    assert np.isnan(chosen).any()
    assert np.signbit(chosen[chosen == 0]).all()
    assert filled("full", 2**53 + 1, dtype="int64")[0] == 2**53 + 1


def test_a_weight_takes_the_shape_of_its_parameter() -> None:
    spec = TensorSpec("weight", "float32", (), None, Fill("ones"), takes_shape=True)
    assert array(spec, (2, 3)).tolist() == [[1, 1, 1], [1, 1, 1]]
    with pytest.raises(ValueError, match="takes the shape of its parameter"):
        array(spec)
    fixed = TensorSpec("weight", "float32", (2,), None, Fill("ones"))
    assert array(fixed, (9, 9)).shape == (2,)


# Literal values


@given(st.lists(st.floats(), min_size=1, max_size=5))
def test_float64_values_are_kept_to_the_bit(values: list[float]) -> None:
    kept = array(TensorSpec("x", "float64", (len(values),), tuple(values)))
    finite = ~np.isnan(kept)
    assert kept[finite].tobytes() == np.array(values)[finite].tobytes()
    assert (np.isnan(kept) == np.isnan(values)).all()


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5))
def test_int64_values_are_kept(values: list[int]) -> None:
    assert array(TensorSpec("x", "int64", (len(values),), tuple(values))).tolist() == values


def test_special_values_survive_every_floating_dtype() -> None:
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        kept = array(TensorSpec("x", dtype, (1, 4), ((math.nan, math.inf, -math.inf, -0.0),))).astype(np.float64)
        assert np.isnan(kept[0, 0])
        assert kept[0, 1:3].tolist() == [math.inf, -math.inf]
        assert np.signbit(kept[0, 3])


def test_bfloat16_is_that_of_ml_dtypes() -> None:
    kept = array(TensorSpec("x", "bfloat16", (1,), (1.005859375,)))
    assert kept.dtype == ml_dtypes.bfloat16
    assert float(kept[0]) == 1.0078125
    assert array(TensorSpec("x", "bool", (2,), (True, False))).tolist() == [True, False]
