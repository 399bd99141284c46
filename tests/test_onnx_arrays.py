"""Arrays become ONNX tensors and back with the same dtypes, for every version of onnx."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from harness.data_files import onnx_files
from harness.data_files.onnx_files import (
    ML_DTYPES,
    OLD_ONNX_FIELDS,
    dtype_from_onnx,
    from_array,
    to_array,
    with_ml_dtypes,
)

DTYPES = (*ML_DTYPES.values(), *map(np.dtype, ("float16", "float32", "int64", "bool")))
needs_ml_dtypes = pytest.mark.skipif(not onnx_files._knows_ml_dtypes(), reason="this onnx has no dtypes of ml_dtypes")


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_and_dtypes_survive_a_round_trip(dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    values = np.resize(np.array([0, 1, -1, 2, -2, 3]).astype(dtype), shape)
    tensor = from_array(values, "x")
    assert tensor.name == "x"
    assert dtype_from_onnx(tensor.data_type) == dtype
    read_back = to_array(tensor)
    assert (read_back.dtype, read_back.shape) == (dtype, shape)
    assert np.array_equal(read_back.astype(np.float64), values.astype(np.float64))


@needs_ml_dtypes
@pytest.mark.parametrize("dtype", ML_DTYPES.values(), ids=str)
def test_the_writer_for_an_older_onnx_writes_what_a_newer_onnx_writes(
    dtype: np.dtype[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.array([[0, 1, -1], [2, -2, 3]]).astype(dtype)
    expected = numpy_helper.from_array(values, "x")
    monkeypatch.setattr(onnx_files, "_knows_ml_dtypes", lambda: False)
    assert from_array(values, "x") == expected


@pytest.mark.parametrize(("field", "name"), OLD_ONNX_FIELDS.items())
def test_the_dtypes_of_an_older_onnx_become_those_of_ml_dtypes(field: str, name: str) -> None:
    values = np.array([[0, 1, -1], [2, -2, 3]]).astype(ML_DTYPES[name])
    code = np.uint16 if name == "BFLOAT16" else np.uint8
    whole = name in {"INT4", "UINT4"}
    older = (values.astype(np.int8) if whole else values).view(code).view(np.dtype((code, {field: (code, 0)})))
    assert with_ml_dtypes(older).dtype == ML_DTYPES[name]
    assert np.array_equal(with_ml_dtypes(older), values)
    assert with_ml_dtypes(values) is values


def test_data_types_have_the_numbers_of_onnx() -> None:
    for name, dtype in ML_DTYPES.items():
        tensor = helper.make_tensor("x", from_array(np.zeros(1, dtype)).data_type, [2], [1.0, 0.0])
        assert name == tensor.DataType.Name(tensor.data_type)
        assert to_array(tensor).astype(np.float64).tolist() == [1.0, 0.0]
