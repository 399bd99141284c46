"""Read the tensors of a ``.pt`` file that ``torch.save`` wrote, without torch, and without running any code.

Such a file is a zip archive: ``data.pkl`` says which tensors there are, ``data/0``, ``data/1``, ... hold their bytes.
The pickle is read as ``torch.load(weights_only=True)`` reads it: tensors, parameters and plain containers, and
nothing that it could call. The functions below stand for torch's own (``torch/_utils.py``).
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from harness.data_files import UNNAMED, StoredArray
from harness.errors import UsageError

Array = NDArray[Any]

MAX_DEPTH = 64
DTYPES: Mapping[str, np.dtype[Any]] = {
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
    "complex64": np.dtype("<c8"),
    "complex128": np.dtype("<c16"),
    "int8": np.dtype("i1"),
    "int16": np.dtype("<i2"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "uint8": np.dtype("u1"),
    "uint16": np.dtype("<u2"),
    "uint32": np.dtype("<u4"),
    "uint64": np.dtype("<u8"),
    "bool": np.dtype(np.bool_),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8_e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
}
STORAGES: Mapping[str, str] = {
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
CONVERSION = (
    "load it where its code may run and save tensors alone: torch.save(model.state_dict(), 'net.pt') for weights, "
    "torch.save({'x': x}, 'inputs.pt') for inputs"
)


@dataclass(frozen=True, slots=True)
class _Storage:
    """The bytes that tensors are views of; ``dtype`` is None for an untyped one."""

    dtype: np.dtype[Any] | None
    file: str


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor of the pickle: a strided view of a storage. ``offset`` and ``strides`` count elements."""

    file: str
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Refused(Exception):
    """The file holds something else than tensors and plain containers; the message says what."""


def read_pt(path: Path) -> Mapping[str, StoredArray]:
    """The tensors in the file by their path, such as ``layer.weight`` or ``past.0.key``.

    Whatever else is in it, such as the number of an epoch, is not returned. Raises :class:`UsageError`.
    """
    if not zipfile.is_zipfile(path):
        raise UsageError(
            f"{path}: not a file of torch.save, or one from before torch 1.6 (a bare pickle); {CONVERSION}"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            content, root, big_endian, sizes = _read_archive(archive)
    except _Refused as error:
        raise UsageError(f"{path}: {error}; {CONVERSION}") from None
    except Exception as error:  # a damaged pickle can make its reader raise anything
        raise UsageError(f"{path}: damaged ({type(error).__name__}); write it with torch.save") from error
    arrays = {}
    for name, tensor in _tensors(content, UNNAMED):
        if not _fits(tensor, sizes.get(tensor.file, 0)):
            raise UsageError(
                f"{path}: {name or 'its tensor'} is damaged: its data is missing; write it with torch.save"
            )
        read = partial(_read, path, f"{root}data/{tensor.file}", tensor, big_endian)
        arrays[name] = StoredArray(tensor.dtype, tensor.shape, read)
    return arrays


def _read_archive(archive: zipfile.ZipFile) -> tuple[Any, str, bool, Mapping[str, int]]:
    """What is pickled, the folder in the archive, whether its numbers are big-endian, and the size of each storage."""
    names = archive.namelist()
    pickled = next((name for name in names if name.endswith("/data.pkl")), None)
    if pickled is None:
        raise _Refused("a zip archive, but not one of torch.save")
    root = pickled.removesuffix("data.pkl")
    if any(name.startswith(f"{root}code/") for name in names):
        raise _Refused("a TorchScript module, which is code and no data")
    content = _Unpickler(archive.read(pickled)).load()
    big_endian = f"{root}byteorder" in names and archive.read(f"{root}byteorder") == b"big"
    return (
        content,
        root,
        big_endian,
        {each.filename.removeprefix(f"{root}data/"): each.file_size for each in archive.infolist()},
    )


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows tensors and plain containers. All it can call is what :meth:`find_class` returns."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))

    def find_class(self, module: str, name: str) -> Any:
        """What stands for ``module.name``, new at each call: a pickle may set attributes of what it has loaded."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch", "Size"):
            return partial(tuple[int, ...])
        if module == "torch" and name in STORAGES:
            return partial(_Storage, DTYPES[STORAGES[name]])
        if (module, name) == ("torch.storage", "UntypedStorage"):
            return partial(_Storage, None)
        if module == "torch" and name in DTYPES:
            return name
        functions: Mapping[str, Callable[..., _Tensor]] = {
            "_rebuild_tensor_v2": _rebuild_tensor,
            "_rebuild_tensor_v3": _rebuild_untyped,
            "_rebuild_parameter": _rebuild_parameter,
        }
        if module != "torch._utils" or name not in functions:
            raise _Refused(f"a pickle that runs code when it is loaded (it needs {module[:60]}.{name[:60]})")
        return partial(functions[name])

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that ``("storage", type, file, device, elements)`` names."""
        _, kind, file, *_ = pid
        storage = kind(str(file))
        if not isinstance(storage, _Storage):
            raise pickle.UnpicklingError
        return storage


def _rebuild_tensor(storage: _Storage, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> _Tensor:
    if storage.dtype is None:
        raise pickle.UnpicklingError
    return _Tensor(storage.file, storage.dtype, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


def _rebuild_untyped(
    storage: _Storage, offset: int, size: Sequence[int], stride: Sequence[int], _grad: bool, _hooks: Any,
    dtype: str, *_: Any,
) -> _Tensor:  # fmt: skip
    return _Tensor(storage.file, DTYPES[dtype], int(offset), tuple(map(int, size)), tuple(map(int, stride)))


def _rebuild_parameter(data: _Tensor, *_: Any) -> _Tensor:
    return data


def _fits(tensor: _Tensor, size: int) -> bool:
    """True if every element is inside a storage of ``size`` bytes."""
    if min((tensor.offset, *tensor.shape, *tensor.strides), default=0) < 0 or len(tensor.shape) != len(tensor.strides):
        return False
    last = sum((length - 1) * stride for length, stride in zip(tensor.shape, tensor.strides, strict=True))
    return prod(tensor.shape) == 0 or (tensor.offset + last + 1) * tensor.dtype.itemsize <= size


def _tensors(value: Any, path: str, depth: int = 0) -> Iterator[tuple[str, _Tensor]]:
    """Every tensor in ``value`` with its path."""
    if isinstance(value, _Tensor):
        yield path, value
    elif depth < MAX_DEPTH and isinstance(value, Mapping | list | tuple):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _tensors(item, f"{path}.{key}" if path else str(key), depth + 1)


def _read(path: Path, member: str, tensor: _Tensor, big_endian: bool) -> Array:
    try:
        with zipfile.ZipFile(path) as archive:
            content = archive.read(member) if prod(tensor.shape) else b""
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise UsageError(f"{path}: damaged ({type(error).__name__}); write it with torch.save") from error
    flat = np.frombuffer(content, tensor.dtype)
    if not flat.size:
        return np.empty(tensor.shape, tensor.dtype)
    strides = tuple(stride * tensor.dtype.itemsize for stride in tensor.strides)
    view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False)
    return view.byteswap() if big_endian else view
