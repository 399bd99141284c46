"""Read NumPy's ``.npz`` and ``.npy`` files: headers first, values when they are asked for. No object is unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from harness.data_files import UNNAMED, StoredArray
from harness.errors import UsageError

Array = NDArray[Any]


def read_npz(path: Path) -> Mapping[str, StoredArray]:
    """The arrays of an ``.npz`` file by name. Raises :class:`UsageError`."""
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith(".npy"):
                    name = member.removesuffix(".npy")
                    with archive.open(member) as file:
                        arrays[name] = _stored(file, f"{path}: {name}", partial(_member, path, member))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise UsageError(f"{path}: not an .npz file, or damaged ({error}); write it with numpy.savez") from error
    return arrays


def read_npy(path: Path) -> Mapping[str, StoredArray]:
    """The array of an ``.npy`` file. Raises :class:`UsageError`."""
    with path.open("rb") as file:
        return {UNNAMED: _stored(file, str(path), partial(_file, path))}


def _stored(file: IO[bytes], label: str, read: Any) -> StoredArray:
    """What the header of the array in ``file`` says; ``label`` begins the message of an error."""
    try:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = read_header[version](file)
    except (ValueError, KeyError, EOFError) as error:
        raise UsageError(f"{label} is not an array of NumPy, or damaged; write it with numpy.save") from error
    if dtype.hasobject:
        raise UsageError(
            f"{label} holds pickled objects, which run code when they are loaded; save arrays of numbers, each under "
            "its own name"
        )
    if dtype.kind not in "biufcU":
        raise UsageError(
            f"{label} has dtype {dtype}, which is not one of numbers; save bfloat16 and 8-bit floats as .safetensors"
        )
    return StoredArray(dtype.newbyteorder("="), tuple(shape), partial(_checked, read, label))


def _checked(read: Any, label: str) -> Array:
    try:
        values: Array = read()
    except (ValueError, EOFError, zipfile.BadZipFile, OSError) as error:
        raise UsageError(f"{label} is damaged ({str(error).splitlines()[0]}); write it with numpy.save") from error
    return values


def _member(path: Path, member: str) -> Array:
    with zipfile.ZipFile(path) as archive, archive.open(member) as file:
        values: Array = np.lib.format.read_array(file, allow_pickle=False)
        return values


def _file(path: Path) -> Array:
    with path.open("rb") as file:
        values: Array = np.lib.format.read_array(file, allow_pickle=False)
        return values
