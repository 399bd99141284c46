"""What is recorded in a bundle comes back bit by bit, in its shape, dtype and layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from harness.check.recorded.content_store import ContentStore
from harness.check.recorded.protobufs import read_tensor
from harness.model.answer import Reference, Sample, sampled
from harness.model.tensors import to_numpy, to_torch
from harness.spec.bundle.entries import InputEntry, ToleranceEntry
from harness.spec.language.case import Fill, FillKind, Layout, TensorSpec
from harness.spec.language.fills import array, dtype_of
from harness.spec.language.tensors import laid_out
from harness.spec.language.tolerances import Close, Exact, Scaled, Tolerance, Ulp

Array = np.ndarray[Any, np.dtype[Any]]

DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
LAYOUTS: tuple[Layout, ...] = ("contiguous", "channels_last", "strided")
FILLS = (Fill("normal"), Fill("uniform", (-2.0, 3.0)), Fill("integers", (0, 5)), Fill("arange"), Fill("full", (1.5,)))
SHAPES = st_numpy.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3)


def bits(values: Array) -> bytes:
    """NaN by its payload, and zeros by their sign."""
    return np.ascontiguousarray(values).tobytes()


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """Any bits of any dtype: NaN of every kind, infinities, signed zeros, scalars, and nothing at all."""
    dtype, shape = dtype_of(draw(st.sampled_from(DTYPES))), draw(SHAPES)
    if dtype == np.bool_:
        return draw(st_numpy.arrays(np.bool_, shape))
    raw = draw(st_numpy.arrays(np.dtype(f"u{dtype.itemsize}"), shape))
    return np.asarray(raw).view(dtype)


@given(values=arrays())
def test_a_recorded_array_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, values: Array) -> None:
    folder = tmp_path_factory.getbasetemp()
    back = read_tensor(folder / ContentStore(folder).array(values))
    assert (back.dtype, back.shape, bits(back)) == (values.dtype, values.shape, bits(values))


def test_special_values_come_back_as_they_were(tmp_path: Path) -> None:
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64):
        values = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.0], dtype)
        assert bits(read_tensor(tmp_path / ContentStore(tmp_path).array(values))) == bits(values)


@given(values=arrays(), layout=st.sampled_from(LAYOUTS))
def test_a_layout_is_the_one_that_torch_was_given(values: Array, layout: Layout) -> None:
    """The strides too: what a runtime is given on the board lies in memory as it did on the host."""
    mine, torch_own = laid_out(values, layout), to_numpy(to_torch(values, layout))
    assert bits(mine) == bits(torch_own)
    assert mine.shape == values.shape
    if values.size and min(values.shape, default=2) > 1:
        assert mine.strides == torch_own.strides


@given(
    shape=SHAPES,
    dtype=st.sampled_from(DTYPES),
    fill=st.sampled_from(FILLS),
    layout=st.sampled_from(LAYOUTS),
    seed=st.integers(0, 2**64 - 1),
)
def test_an_input_that_is_not_recorded_is_drawn_anew_bit_by_bit(
    shape: tuple[int, ...], dtype: str, fill: Fill, layout: Layout, seed: int
) -> None:
    spec = TensorSpec("x", dtype, shape, fill=fill, layout=layout, seed=seed)
    back = InputEntry.model_validate_json(InputEntry.of(spec).model_dump_json()).spec()
    assert back == spec
    assert bits(array(back)) == bits(array(spec))


@pytest.mark.parametrize("kind", FillKind.__args__)  # type: ignore[attr-defined]
def test_every_fill_can_be_told(kind: FillKind) -> None:
    told = InputEntry.of(TensorSpec("x", "float32", (2,), fill=Fill(kind, (1.0, 2.0)))).spec().fill
    assert told == Fill(kind, (1.0, 2.0))


@pytest.mark.parametrize("fill", [Fill("full", (True,)), Fill("choice", (True, False)), Fill("full", (2**53 + 1,))])
def test_a_fill_is_told_to_the_last_bit(fill: Fill) -> None:
    spec = TensorSpec("x", "bool" if True in fill.parameters else "int64", (8,), fill=fill, seed=3)
    back = InputEntry.model_validate_json(InputEntry.of(spec).model_dump_json()).spec()
    assert bits(array(back)) == bits(array(spec))


RULES = st.one_of(
    st.just(Exact()),
    st.integers(0, 2**40).map(Ulp),
    st.builds(Close, *[st.floats(0, 1e30)] * 2),
    st.floats(0, 1e30).map(Scaled),
)


@given(rule=RULES, by_output=st.dictionaries(st.integers(0, 9), RULES, max_size=3))
def test_a_tolerance_comes_back_as_it_was(rule: Any, by_output: dict[int, Any]) -> None:
    held_to = Tolerance(rule, by_output)
    assert ToleranceEntry.model_validate_json(ToleranceEntry.of(held_to).model_dump_json()).tolerance() == held_to


@given(values=arrays(), every=st.integers(1, 7))
def test_a_sample_is_of_the_same_elements_on_both_sides(values: Array, every: int) -> None:
    """And an answer of another form is not made to fit."""
    whole = Reference({}, {"y": values}, None, (), (), stochastic=False)
    known = sampled(whole, Sample(every, (values.shape,)))
    assert bits(np.asarray(known.part({"y": values})["y"])) == bits(known.eager["y"])
    assert known.eager["y"].size == -(-values.size // every)
    other = values.reshape(*values.shape, 1)
    assert known.part({"y": other})["y"].shape == other.shape
    assert [*known.part({"y": values, "more": values})] == ["y", "more"]
