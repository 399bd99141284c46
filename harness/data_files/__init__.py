"""Arrays by name from data files: ``.npz``, ``.npy``, ``.pt``, ``.safetensors``, and ``test_data_set_*`` folders.

    stored_arrays(path)["x"]          dtype and shape of one array; ``read()`` gives its values
    sample_paths(folder)              the files of a folder, each of them one sample

No file can run code: a pickled object is refused, and so is anything in a ``.pt`` but tensors and plain containers.
Neither torch nor the safetensors library is needed, so a machine without them reads the same files. Only a
``test_data_set_*`` folder needs onnx.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError, escape_path

Array = NDArray[Any]

UNNAMED = ""
"""The name of the only array of a file that gives it none: a ``.npy`` file, or a ``.pt`` file that is one tensor."""
NEAR = 0.75
"""The share of common characters from which the name of a file is suggested for another."""
_LFS_BEGINNING = b"version https://git-lfs.github.com/spec/"
LFS_POINTER = "a pointer of Git LFS, not the file itself; run git lfs pull"
TEST_DATA_NAME = re.compile(r"input_[0-9]+")
"""The name of an array of a test data set that gives it none."""
TEST_DATA_SET = re.compile(r"test_data_set_[0-9]+")


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array in a file: its dtype and shape are known, its values are read when they are asked for."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    _read: Callable[[], Array] = field(repr=False, compare=False)

    def read(self) -> Array:
        """A copy of the values, in row-major order and the machine's byte order. Raises :class:`UsageError`."""
        values = self._read()
        return np.array(values, dtype=values.dtype.newbyteorder("="), order="C", copy=True)


def is_data_file(path: Path) -> bool:
    """True if the name of ``path`` is that of a data file, or of a folder in the layout of ONNX's test data."""
    return path.suffix.lower() in _readers() or (TEST_DATA_SET.fullmatch(path.name) is not None and path.is_dir())


def sample_paths(path: Path) -> tuple[Path, ...]:
    """The data files that ``path`` stands for, each of them one sample.

    A file and a folder of protobufs (``input_0.pb``, ...) stand for themselves, any other folder for the data files in
    it, numbers in their names in numerical order. Raises :class:`UsageError` if there is none.
    """
    if not path.is_dir() or TEST_DATA_SET.fullmatch(path.name) or (path / "input_0.pb").is_file():
        return (path,)
    found = tuple(sorted(filter(is_data_file, path.iterdir()), key=natural_order))
    if not found:
        raise UsageError(f"{path}: a folder without data files; put {_kinds()} files into it")
    return found


def natural_order(path: Path) -> tuple[tuple[int, int, str], ...]:
    """A sort key by which ``9.npz`` comes before ``10.npz``."""
    parts = re.findall(r"[0-9]+|[^0-9]+", str(path))
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts)


def stored_arrays(path: Path) -> Mapping[str, StoredArray]:
    """The arrays in the file or test data set at ``path`` by name, in its order; nested ones as ``past.0.key``.

    Raises :class:`UsageError` in one line if it cannot be read, is damaged, holds objects that run code when they are
    loaded, or holds no array at all.
    """
    if path.is_dir():
        from harness.data_files.onnx_files import read_test_data

        arrays: Mapping[str, StoredArray] = read_test_data(path)
    else:
        try:
            if not path.exists():
                raise UsageError(f"{path}: no such file; {near_file(path, 'name a data file')}")
            reader = _readers().get(path.suffix.lower())
            if reader is None:
                raise UsageError(f"{path}: not a data file; give {_kinds()}, or a test_data_set_* folder")
            if not path.is_file():
                raise UsageError(f"{path}: not a regular file; name a data file")
            stat = path.stat()
            arrays = _read_once(reader, path, stat.st_size, stat.st_mtime_ns)
        except OSError as error:
            raise UsageError(
                f"{path}: cannot be read ({error.strerror or error}); name a readable data file"
            ) from error
    if not arrays:
        raise UsageError(f"{path}: holds no arrays; save at least one")
    return arrays


@lru_cache(maxsize=16)
def _read_once(
    reader: Callable[[Path], Mapping[str, StoredArray]], path: Path, _size: int, _modified_ns: int
) -> Mapping[str, StoredArray]:
    """What ``reader`` returns, cached while the file stays as it is: each weight of a model asks for its file."""
    if is_lfs_pointer(path):
        raise UsageError(f"{path}: {LFS_POINTER}")
    return reader(path)


def is_lfs_pointer(path: Path) -> bool:
    """True if the file is what Git LFS leaves in its place: git-lfs.github.com/spec."""
    with path.open("rb") as file:
        return file.read(len(_LFS_BEGINNING)) == _LFS_BEGINNING


def near_file(path: Path, otherwise: str, *, folder: Path | None = None) -> str:
    """``did you mean net.onnx?`` for a file that does not exist, if one beside it has nearly its name.

    ``otherwise`` if there is none. Only what comes before the suffix is compared, among files with this suffix. The
    answer is relative to ``folder``, or is written as ``path`` is.
    """
    try:
        stems = {each.stem: each for each in path.parent.iterdir() if each.suffix.lower() == path.suffix.lower()}
    except OSError:  # no such folder either
        return otherwise
    near = get_close_matches(path.stem, sorted(stems), n=1, cutoff=NEAR)
    if not near:
        return otherwise
    found = stems[near[0]]
    return f"did you mean {escape_path(found if folder is None else os.path.relpath(found, folder))}?"


def absent_python_file(path: str) -> str:
    """What to say of the file of a callable that does not exist."""
    return f"no such file; {near_file(Path(path), 'name it relative to the working directory')}"


def pick(arrays: Mapping[str, StoredArray], key: str | None, path: Path) -> StoredArray:
    """The array ``key`` of the file at ``path``, which may be left out (None) if the file holds only one.

    Raises :class:`UsageError` that lists the names in the file.
    """
    if key is None and len(arrays) == 1:
        return next(iter(arrays.values()))
    if key is None:
        raise UsageError(f"{path}: holds {len(arrays)} arrays; choose one with `key`: {names_of(arrays)}")
    if key not in arrays:
        raise UsageError(f"{path}: no array {key!r}; it holds {names_of(arrays)}")
    return arrays[key]


def names_of(arrays: Mapping[str, StoredArray]) -> str:
    """The names in a file for a message: ``images, labels``; at most twenty of them."""
    names = [name or "one array without a name" for name in arrays]
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _readers() -> Mapping[str, Callable[[Path], Mapping[str, StoredArray]]]:
    from harness.data_files import numpy_files, safetensors_files, torch_files

    return {
        ".npz": numpy_files.read_npz,
        ".npy": numpy_files.read_npy,
        ".pt": torch_files.read_pt,
        ".pth": torch_files.read_pt,
        ".ckpt": torch_files.read_pt,
        ".bin": torch_files.read_pt,
        ".safetensors": safetensors_files.read_safetensors,
    }


def _kinds() -> str:
    return ".npz, .npy, .pt or .safetensors"
