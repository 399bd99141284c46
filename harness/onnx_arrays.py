"""ONNX tensors as NumPy arrays and back, with the dtypes of ``ml_dtypes`` for every version of onnx.

onnx before 1.19 defines its own dtypes for bfloat16 and narrower numbers, and does not know those of ``ml_dtypes``.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from harness.deprecated import accept_old_names

if TYPE_CHECKING:
    from onnx import TensorProto

Array = NDArray[Any]

ML_DTYPES: dict[str, np.dtype[Any]] = {
    "BFLOAT16": np.dtype(ml_dtypes.bfloat16),
    "FLOAT8E4M3FN": np.dtype(ml_dtypes.float8_e4m3fn),
    "FLOAT8E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "FLOAT8E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "FLOAT8E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "INT4": np.dtype(ml_dtypes.int4),
    "UINT4": np.dtype(ml_dtypes.uint4),
    "FLOAT4E2M1": np.dtype(ml_dtypes.float4_e2m1fn),
}
"""The data types of ONNX 1.18 that NumPy itself lacks."""

OLD_ONNX_FIELDS = {
    "bfloat16": "BFLOAT16",
    "e4m3fn": "FLOAT8E4M3FN",
    "e4m3fnuz": "FLOAT8E4M3FNUZ",
    "e5m2": "FLOAT8E5M2",
    "e5m2fnuz": "FLOAT8E5M2FNUZ",
    "int4": "INT4",
    "uint4": "UINT4",
    "float4e2m1": "FLOAT4E2M1",
}
"""The same data types by the field name that marks the dtypes of onnx before 1.19."""

FOUR_BIT_TYPES = frozenset({"INT4", "UINT4", "FLOAT4E2M1"})
"""The data types that are stored two to a byte."""


def to_array(tensor: TensorProto) -> Array:
    """The values of ``tensor``."""
    from onnx import numpy_helper

    return with_ml_dtypes(numpy_helper.to_array(tensor))


def with_ml_dtypes(values: Array) -> Array:
    """``values`` in the dtype of ``ml_dtypes`` if they have one of onnx's own dtypes, else unchanged."""
    name = OLD_ONNX_FIELDS.get(values.dtype.descr[0][0]) if values.dtype.fields else None
    if name is None:
        return values
    codes = values.view(np.uint16 if name == "BFLOAT16" else np.uint8)
    return codes.astype(np.int8).astype(ML_DTYPES[name]) if name in {"INT4", "UINT4"} else codes.view(ML_DTYPES[name])


def from_array(values: Array, name: str | None = None) -> TensorProto:
    """A tensor that holds ``values``."""
    from onnx import TensorProto, numpy_helper

    kind = next((kind for kind, dtype in ML_DTYPES.items() if dtype == values.dtype), None)
    if kind is None or _knows_ml_dtypes():
        tensor: TensorProto = numpy_helper.from_array(values, name)
        return tensor
    codes: Array = np.ravel(values).view(np.uint16 if kind == "BFLOAT16" else np.uint8)
    if kind in FOUR_BIT_TYPES:
        pairs = np.pad(codes & 0xF, (0, codes.size % 2))
        codes = pairs[::2] | pairs[1::2] << 4
    raw = codes.astype(codes.dtype.newbyteorder("<")).tobytes()
    return TensorProto(name=name, data_type=TensorProto.DataType.Value(kind), dims=values.shape, raw_data=raw)


def dtype_from_onnx(number: int) -> np.dtype[Any]:
    """The dtype for ``number``, a value of ``TensorProto.DataType``."""
    from onnx import TensorProto, helper

    name = TensorProto.DataType.Name(number)
    return ML_DTYPES[name] if name in ML_DTYPES else np.dtype(helper.tensor_dtype_to_np_dtype(number))


@cache
def _knows_ml_dtypes() -> bool:
    from onnx import TensorProto, helper

    return bool(np.dtype(helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)) == ML_DTYPES["BFLOAT16"])


accept_old_names(__name__)
