"""Conversion between torch and NumPy keeps values, dtypes and layouts, and never shares memory."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from harness.model.running import repeatable_call
from harness.model.tensors import to_numpy, to_torch
from harness.spec.language.case import Layout

LAYOUTS: tuple[Layout | None, ...] = ("contiguous", "channels_last", "strided", None)
NUMPY_DTYPES = ["float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool", "complex64"]
ML_DTYPES = ["bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"]


def same_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()


@given(
    hnp.arrays(
        st.sampled_from(NUMPY_DTYPES).map(np.dtype), hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)
    ),
    st.sampled_from(LAYOUTS),
)
def test_a_round_trip_keeps_every_bit(array: NDArray[Any], layout: Layout | None) -> None:
    assert same_bits(to_numpy(to_torch(array, layout)), array)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ML_DTYPES)
def test_ml_dtypes_keep_every_bit(name: str, layout: Layout | None) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name))
    bits = np.arange(256, dtype=np.uint8).repeat(dtype.itemsize).view(dtype).reshape(2, 2, 8, 8)
    tensor = to_torch(bits, layout)
    assert str(tensor.dtype) == f"torch.{name}"
    assert same_bits(to_numpy(tensor), bits)


def test_the_layouts_have_the_strides_of_their_names() -> None:
    array = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    assert to_torch(array, "contiguous").is_contiguous()
    channels_last = to_torch(array, "channels_last")
    assert channels_last.is_contiguous(memory_format=torch.channels_last)
    assert not channels_last.is_contiguous()
    strided = to_torch(array, "strided")
    assert strided.stride() == (120, 40, 10, 2)
    assert not strided.is_contiguous()
    volume = to_torch(array[..., None], "channels_last")
    assert volume.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
def test_a_layout_is_kept_through_numpy(layout: Layout) -> None:
    tensor = to_torch(np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5), layout)
    converted = to_torch(to_numpy(tensor))
    assert converted.stride() == tensor.stride()
    assert torch.equal(converted, tensor)


def test_the_gaps_between_strided_elements_hold_extreme_values() -> None:
    floats = to_torch(np.ones((2, 3), np.float32), "strided")
    assert torch.as_strided(floats, (6,), (2,), 1).isnan().all()
    integers = to_torch(np.ones((2, 3), np.int64), "strided")
    assert (torch.as_strided(integers, (6,), (2,), 1) == torch.iinfo(torch.int64).max).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_is_never_shared(layout: Layout | None) -> None:
    array = np.ones((1, 2, 3, 3), np.float32)
    tensor = to_torch(array, layout)
    converted = to_numpy(tensor)
    array[:] = 5
    assert (tensor == 1).all()
    tensor.fill_(7)
    assert (converted == 1).all()


def test_expanded_and_sparse_views_become_contiguous_copies() -> None:
    expanded = torch.ones(1, 3).expand(1000, 3)
    assert to_numpy(expanded).flags["C_CONTIGUOUS"]
    assert to_numpy(torch.arange(10_000.0)[::1000]).strides == (4,)


def test_arrays_that_torch_cannot_view_are_converted() -> None:
    reversed_array = np.arange(6, dtype=np.float32)[::-1]
    assert to_torch(reversed_array).tolist() == [5, 4, 3, 2, 1, 0]
    read_only = np.arange(3, dtype=np.float32)
    read_only.flags.writeable = False
    assert to_torch(read_only).tolist() == [0, 1, 2]


def test_every_repeated_call_gets_the_same_inputs() -> None:
    x = torch.tensor([-1.0, -0.0, float("nan")])
    inputs: list[list[float]] = []

    def in_place(tensor: torch.Tensor) -> torch.Tensor:
        inputs.append(tensor.nan_to_num().tolist())
        return tensor.mul_(0.01)

    call, copies = repeatable_call(in_place, [x])
    call()
    call()
    assert copies
    assert inputs[0] == inputs[1] == inputs[2]
    assert torch.equal(x.nan_to_num(), torch.tensor([-1.0, -0.0, 0.0]))


def test_a_call_that_does_not_change_its_inputs_makes_no_copies() -> None:
    x = torch.tensor([-1.0, float("nan")])
    inputs: list[torch.Tensor] = []
    call, copies = repeatable_call(inputs.append, [x])
    call()
    assert not copies
    assert inputs[-1].data_ptr() == x.data_ptr()
