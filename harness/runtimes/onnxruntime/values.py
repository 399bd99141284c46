"""Between NumPy arrays and OrtValues, also for the dtypes that onnxruntime does not know NumPy to have."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from harness.errors import Unsupported
from harness.runtimes import Array
from harness.runtimes.onnxruntime.library import runtime


@dataclass(frozen=True, slots=True)
class _Foreign:
    """A dtype of ml_dtypes: its number in ``onnx.TensorProto.DataType``, and its width in bits."""

    dtype: np.dtype[Any]
    number: int
    width: int


_FOREIGN = {
    "tensor(bfloat16)": _Foreign(np.dtype(ml_dtypes.bfloat16), 16, 16),
    "tensor(float8e4m3fn)": _Foreign(np.dtype(ml_dtypes.float8_e4m3fn), 17, 8),
    "tensor(float8e4m3fnuz)": _Foreign(np.dtype(ml_dtypes.float8_e4m3fnuz), 18, 8),
    "tensor(float8e5m2)": _Foreign(np.dtype(ml_dtypes.float8_e5m2), 19, 8),
    "tensor(float8e5m2fnuz)": _Foreign(np.dtype(ml_dtypes.float8_e5m2fnuz), 20, 8),
    "tensor(uint4)": _Foreign(np.dtype(ml_dtypes.uint4), 21, 4),
    "tensor(int4)": _Foreign(np.dtype(ml_dtypes.int4), 22, 4),
    "tensor(float4e2m1)": _Foreign(np.dtype(ml_dtypes.float4_e2m1fn), 23, 4),
    "tensor(float8e8m0)": _Foreign(np.dtype(ml_dtypes.float8_e8m0fnu), 24, 8),
    "tensor(uint2)": _Foreign(np.dtype(ml_dtypes.uint2), 25, 2),
    "tensor(int2)": _Foreign(np.dtype(ml_dtypes.int2), 26, 2),
}
_BY_DTYPE = {foreign.dtype: foreign for foreign in _FOREIGN.values()}


def needs_values(types: Mapping[str, str]) -> bool:
    """True where one of ``types`` (ONNX's names, by input or output) cannot pass through ``InferenceSession.run``."""
    return any(kind in _FOREIGN for kind in types.values())


def require_tensors(types: Mapping[str, str]) -> None:
    """Raises :class:`Unsupported` for an input or output that is a sequence, a map or optional."""
    for name, kind in types.items():
        if not kind.startswith("tensor("):
            raise Unsupported(f"{name} is a {kind}; a tensor would do here")


def to_value(array: Array) -> Any:
    """An OrtValue on the CPU. It may share memory with ``array``, which must outlive it."""
    values = runtime().OrtValue
    foreign = _BY_DTYPE.get(array.dtype)
    if foreign is None:
        return values.ortvalue_from_numpy(array)
    if foreign.width >= 8:
        bits = array.view(np.dtype(f"i{foreign.width // 8}" if foreign.width > 8 else "u1"))
        return values.ortvalue_from_numpy_with_onnx_type(bits, foreign.number)
    value = values.ortvalue_from_shape_and_type(list(array.shape), foreign.number, "cpu")
    held = _packed(array.view(np.uint8), foreign.width)
    ctypes.memmove(value.data_ptr(), held, len(held))
    return value


def from_value(value: Any) -> Array:
    """The array that an OrtValue on the CPU holds, in memory of its own."""
    foreign = _FOREIGN.get(value.data_type())
    if foreign is None:
        return np.array(value.numpy(), copy=True)
    shape = value.shape()
    held = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    if foreign.width >= 8:
        return np.frombuffer(held, foreign.dtype).reshape(shape).copy()
    return _unpacked(held, foreign, int(np.prod(shape))).reshape(shape)


def _packed(elements: Array, width: int) -> bytes:
    """Several elements a byte, the first in the lowest bits, as ONNX packs them."""
    share = 8 // width
    low = elements.reshape(-1) & (2**width - 1)
    low = np.pad(low, (0, -low.size % share)).reshape(-1, share)
    shifts = np.arange(share, dtype=np.uint8) * width
    packed: Array = np.bitwise_or.reduce(low << shifts, axis=1).astype(np.uint8)
    return packed.tobytes()


def _unpacked(held: bytes, foreign: _Foreign, count: int) -> Array:
    shifts = np.arange(8 // foreign.width, dtype=np.uint8) * foreign.width
    low = (np.frombuffer(held, np.uint8)[:, None] >> shifts & (2**foreign.width - 1)).reshape(-1)[:count]
    if foreign.dtype.name.startswith("int"):
        sign = 2 ** (foreign.width - 1)
        low = (low.astype(np.int8) ^ sign) - sign
    elements: Array = low.view(foreign.dtype) if "float" in foreign.dtype.name else low.astype(foreign.dtype)
    return elements
