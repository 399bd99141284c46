"""Read ``.safetensors`` files: eight bytes with the length of a JSON header, the header, then the tensors' bytes.

The format is described at https://huggingface.co/docs/safetensors. The library itself is not needed; its reader for
NumPy has no bfloat16.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import Annotated, Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt, TypeAdapter, ValidationError
from pydantic import Field as PydanticField

from harness.data_files import StoredArray
from harness.errors import UsageError

Array = NDArray[Any]

MAX_HEADER_BYTES = 100_000_000
"""The library's own limit."""
DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
}


class _Entry(BaseModel):
    """One tensor of the header."""

    model_config = ConfigDict(strict=True, frozen=True)

    dtype: str
    shape: list[NonNegativeInt]
    data_offsets: Annotated[list[NonNegativeInt], PydanticField(min_length=2, max_length=2)]


_HEADER = TypeAdapter(dict[str, _Entry])


def read_safetensors(path: Path) -> Mapping[str, StoredArray]:
    """The tensors of the file by name, in the order of their data. Raises :class:`UsageError`."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= MAX_HEADER_BYTES else b""
    try:
        content = json.loads(header)
        content.pop("__metadata__", None)
        entries = _HEADER.validate_python(content)
    except (ValueError, AttributeError, RecursionError, ValidationError) as error:
        raise UsageError(f"{path}: not a .safetensors file, or damaged; write it with safetensors") from error
    start, size = 8 + length, path.stat().st_size
    in_order = sorted(entries.items(), key=lambda item: item[1].data_offsets[0])
    return {name: _stored(path, name, entry, start, size) for name, entry in in_order}


def _stored(path: Path, name: str, entry: _Entry, start: int, size: int) -> StoredArray:
    if entry.dtype not in DTYPES:
        raise UsageError(f"{path}: {name} has dtype {entry.dtype}; harness reads {', '.join(DTYPES)}")
    dtype, (first, end) = DTYPES[entry.dtype], entry.data_offsets
    if end - first != prod(entry.shape) * dtype.itemsize or start + end > size:
        raise UsageError(f"{path}: {name} is damaged: its data and its shape {entry.shape} do not fit together")
    return StoredArray(dtype, tuple(entry.shape), partial(_read, path, start + first, end - first, dtype, entry.shape))


def _read(path: Path, offset: int, count: int, dtype: np.dtype[Any], shape: list[int]) -> Array:
    with path.open("rb") as file:
        file.seek(offset)
        return np.frombuffer(file.read(count), dtype).reshape(shape)
