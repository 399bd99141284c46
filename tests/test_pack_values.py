"""Values of a bundle are read back with equal bits, shape, dtype and layout."""

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
from harness.model.answer import Reference, Sample, reduced_to_sample
from harness.model.tensors import to_numpy, to_torch
from harness.spec.bundle.entries import InputEntry, ToleranceEntry
from harness.spec.language.case import Fill, FillKind, Layout, TensorSpec
from harness.spec.language.inputs.fills import array, dtype_of
from harness.spec.language.inputs.tensors import with_layout
from harness.spec.language.tolerances import Close, Exact, Scaled, Tolerance, Ulp

Array = np.ndarray[Any, np.dtype[Any]]

DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
LAYOUTS: tuple[Layout, ...] = ("contiguous", "channels_last", "strided")
FILLS = (Fill("normal"), Fill("uniform", (-2.0, 3.0)), Fill("integers", (0, 5)), Fill("arange"), Fill("full", (1.5,)))
SHAPES = st_numpy.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3)


def bits(values: Array) -> bytes:
    """The bytes of ``values``, including NaN payloads and signs of zeros."""
    return np.ascontiguousarray(values).tobytes()


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """Any bits of any dtype: NaN of every kind, infinities, signed zeros, scalars and empty arrays."""
    dtype, shape = dtype_of(draw(st.sampled_from(DTYPES))), draw(SHAPES)
    if dtype == np.bool_:
        return draw(st_numpy.arrays(np.bool_, shape))
    raw = draw(st_numpy.arrays(np.dtype(f"u{dtype.itemsize}"), shape))
    return np.asarray(raw).view(dtype)


@given(values=arrays())
def test_a_recorded_array_is_read_back_unchanged(tmp_path_factory: pytest.TempPathFactory, values: Array) -> None:
    folder = tmp_path_factory.getbasetemp()
    read_back = read_tensor(folder / ContentStore(folder).put_array(values))
    assert (read_back.dtype, read_back.shape, bits(read_back)) == (values.dtype, values.shape, bits(values))


def test_special_values_are_read_back_unchanged(tmp_path: Path) -> None:
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64):
        values = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.0], dtype)
        assert bits(read_tensor(tmp_path / ContentStore(tmp_path).put_array(values))) == bits(values)


@given(values=arrays(), layout=st.sampled_from(LAYOUTS))
def test_a_layout_is_the_one_of_torch(values: Array, layout: Layout) -> None:
    """Inputs have the same strides on the board as on the host."""
    actual, expected = with_layout(values, layout), to_numpy(to_torch(values, layout))
    assert bits(actual) == bits(expected)
    assert actual.shape == values.shape
    if values.size and min(values.shape, default=2) > 1:
        assert actual.strides == expected.strides


@given(
    shape=SHAPES,
    dtype=st.sampled_from(DTYPES),
    fill=st.sampled_from(FILLS),
    layout=st.sampled_from(LAYOUTS),
    seed=st.integers(0, 2**64 - 1),
)
def test_an_input_that_is_not_recorded_is_generated_again_bit_by_bit(
    shape: tuple[int, ...], dtype: str, fill: Fill, layout: Layout, seed: int
) -> None:
    spec = TensorSpec("x", dtype, shape, fill=fill, layout=layout, seed=seed)
    read_back = InputEntry.model_validate_json(InputEntry.of(spec).model_dump_json()).spec()
    assert read_back == spec
    assert bits(array(read_back)) == bits(array(spec))


@pytest.mark.parametrize("kind", FillKind.__args__)  # type: ignore[attr-defined]
def test_every_fill_can_be_stored(kind: FillKind) -> None:
    fill = InputEntry.of(TensorSpec("x", "float32", (2,), fill=Fill(kind, (1.0, 2.0)))).spec().fill
    assert fill == Fill(kind, (1.0, 2.0))


@pytest.mark.parametrize("fill", [Fill("full", (True,)), Fill("choice", (True, False)), Fill("full", (2**53 + 1,))])
def test_a_fill_is_stored_exactly(fill: Fill) -> None:
    spec = TensorSpec("x", "bool" if True in fill.parameters else "int64", (8,), fill=fill, seed=3)
    read_back = InputEntry.model_validate_json(InputEntry.of(spec).model_dump_json()).spec()
    assert bits(array(read_back)) == bits(array(spec))


RULES = st.one_of(
    st.just(Exact()),
    st.integers(0, 2**40).map(Ulp),
    st.builds(Close, *[st.floats(0, 1e30)] * 2),
    st.floats(0, 1e30).map(Scaled),
)


@given(rule=RULES, by_output=st.dictionaries(st.integers(0, 9), RULES, max_size=3))
def test_a_tolerance_is_read_back_unchanged(rule: Any, by_output: dict[int, Any]) -> None:
    tolerance = Tolerance(rule, by_output)
    assert ToleranceEntry.model_validate_json(ToleranceEntry.of(tolerance).model_dump_json()).tolerance() == tolerance


@given(values=arrays(), every=st.integers(1, 7))
def test_a_sample_is_of_the_same_elements_on_both_sides(values: Array, every: int) -> None:
    """Outputs with another shape and additional outputs stay unchanged."""
    whole = Reference({}, {"y": values}, None, (), (), stochastic=False)
    known = reduced_to_sample(whole, Sample(every, (values.shape,)))
    assert bits(np.asarray(known.comparable_part({"y": values})["y"])) == bits(known.eager["y"])
    assert known.eager["y"].size == -(-values.size // every)
    other = values.reshape(*values.shape, 1)
    assert known.comparable_part({"y": other})["y"].shape == other.shape
    assert [*known.comparable_part({"y": values, "more": values})] == ["y", "more"]
