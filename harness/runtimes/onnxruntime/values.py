"""Between NumPy arrays and OrtValues, also for the dtypes that onnxruntime does not know NumPy to have."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from harness.errors import Unsupported
from harness.runtimes import Array
from harness.runtimes.onnxruntime.library import runtime

# By ONNX's name: the NumPy dtype, an integer of the same width, and the number in onnx.TensorProto.DataType.
_FOREIGN: dict[str, tuple[np.dtype[Any], np.dtype[Any], int]] = {
    "tensor(bfloat16)": (np.dtype(ml_dtypes.bfloat16), np.dtype(np.int16), 16),
    "tensor(float8e4m3fn)": (np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(np.uint8), 17),
    "tensor(float8e4m3fnuz)": (np.dtype(ml_dtypes.float8_e4m3fnuz), np.dtype(np.uint8), 18),
    "tensor(float8e5m2)": (np.dtype(ml_dtypes.float8_e5m2), np.dtype(np.uint8), 19),
    "tensor(float8e5m2fnuz)": (np.dtype(ml_dtypes.float8_e5m2fnuz), np.dtype(np.uint8), 20),
}
_BY_DTYPE = {dtype: (bits, number) for dtype, bits, number in _FOREIGN.values()}


def needs_values(types: Mapping[str, str]) -> bool:
    """True where one of ``types`` (ONNX's names, by input or output) cannot pass through ``InferenceSession.run``."""
    return any(kind in _FOREIGN for kind in types.values())


def require_tensors(types: Mapping[str, str]) -> None:
    """Raises :class:`Unsupported` for an output that is a sequence, a map or optional."""
    for name, kind in types.items():
        if not kind.startswith("tensor("):
            raise Unsupported(f"output {name} is a {kind}; harness compares tensors")


def to_value(array: Array) -> Any:
    """An OrtValue on the CPU. It may share memory with ``array``, which must outlive it."""
    values = runtime().OrtValue
    if array.dtype in _BY_DTYPE:
        bits, number = _BY_DTYPE[array.dtype]
        return values.ortvalue_from_numpy_with_onnx_type(array.view(bits), number)
    return values.ortvalue_from_numpy(array)


def from_value(value: Any) -> Array:
    """The array that an OrtValue on the CPU holds, in memory of its own."""
    kind = value.data_type()
    if kind in _FOREIGN:
        held = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
        return np.frombuffer(held, _FOREIGN[kind][0]).reshape(value.shape()).copy()
    return np.array(value.numpy(), copy=True)
