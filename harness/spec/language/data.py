"""Data files that a spec names: found beside the spec, kept inside the folder of the command, known by their content.

Paths are relative to the spec. Neither ``..`` nor a link may lead out of the folder that was given to the command.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import get_args

from harness.data_files import StoredArray, natural_order, near_file, pick, sample_paths, stored_arrays
from harness.errors import UsageError, escape_path
from harness.spec.language.case import FileSource, Layout, TensorSpec
from harness.spec.language.schema import DType

READ_BYTES = 2**20
FLOATING = frozenset({"float16", "bfloat16", "float32", "float64"})


@dataclass(frozen=True, slots=True)
class SpecFolder:
    """The ``folder`` of a spec, and the ``root`` that its data files must be in; None for a spec that is no file."""

    folder: Path | None = None
    root: Path | None = None

    def file(self, text: str) -> Path:
        """The data file that the spec calls ``text``. Raises :class:`UsageError` if there is none inside the root."""
        if self.folder is None or self.root is None:
            raise UsageError(f"{text}: this spec has no folder; write the values, or put the spec into a file")
        path = self.folder / text
        self._require_inside(text, path)
        if not os.path.lexists(path):
            advice = near_file(path, "paths are relative to the spec", folder=self.folder)
            raise UsageError(f"{text}: no such file beside the spec; {advice}")
        return path

    def samples(self, pattern: str) -> tuple[Path, ...]:
        """The data files that match the glob ``pattern``, or are in a folder that does, sorted, numbers by size.

        Raises :class:`UsageError` if there is none, or one is outside the root.
        """
        if self.folder is None:
            raise UsageError(f"{pattern}: this spec has no folder; put the spec into a file")
        try:
            found = [
                each for path in sorted(self.folder.glob(pattern), key=natural_order) for each in sample_paths(path)
            ]
        except (ValueError, NotImplementedError) as error:
            raise UsageError(f"{pattern}: not a glob; write one relative to the spec, such as data/*.npz") from error
        for path in found:
            self._require_inside(pattern, path)
        if not found:
            raise UsageError(f"{pattern}: no file matches; paths are relative to the spec")
        return tuple(found)

    def _require_inside(self, text: str, path: Path) -> None:
        # Not Path.resolve, which raises where a link leads to itself.
        if self.root is not None and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root)):
            raise UsageError(
                f"{text}: {'a link' if path.is_symlink() else 'a path'} that leads out of the folder "
                f"{escape_path(self.root)}; put the file itself there"
            )


def tensor_from_file(
    label: str, path: Path, key: str | None, dtype: str | None, case_dtype: str, layout: Layout = "contiguous"
) -> TensorSpec:
    """The tensor ``key`` of the file at ``path``, in ``dtype``.

    Without a dtype, floating values take the case's, and all others keep their own. Raises :class:`UsageError`.
    """
    arrays = stored_arrays(path)
    return _tensor(label, path, arrays, pick(arrays, key, path), key, dtype, case_dtype, layout)


def tensors_from_file(path: Path, case_dtype: str) -> dict[str, TensorSpec]:
    """Every tensor of the file at ``path`` by name. Raises :class:`UsageError`."""
    arrays = stored_arrays(path)
    return {
        name: _tensor(name, path, arrays, stored, name, None, case_dtype, "contiguous")
        for name, stored in arrays.items()
    }


def _tensor(
    label: str,
    path: Path,
    arrays: Mapping[str, StoredArray],
    stored: StoredArray,
    key: str | None,
    dtype: str | None,
    case_dtype: str,
    layout: Layout,
) -> TensorSpec:
    own = stored.dtype.name
    if own not in get_args(DType):
        raise UsageError(f"{path}: {key or label} has dtype {own}; a case has {', '.join(get_args(DType))}")
    is_single = key is None or (len(arrays) == 1 and key == next(iter(arrays)))
    source = FileSource(file_digest(path), None if is_single else key, str(path.absolute()))
    dtype = dtype or (case_dtype if own in FLOATING else own)
    return TensorSpec(label, dtype, stored.shape, None, None, layout, 0, source=source)


def file_digest(path: Path) -> str:
    """The SHA-256 of the file, or of the files of a test data set. Raises :class:`UsageError` if it cannot be read."""
    try:
        files = sorted(path.glob("input_*.pb")) if path.is_dir() else [path]
        stats = [file.stat() for file in files]
        return _digest(
            tuple((str(file), stat.st_size, stat.st_mtime_ns) for file, stat in zip(files, stats, strict=True))
        )
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); name a readable data file") from error


@lru_cache(maxsize=4096)
def _digest(files: tuple[tuple[str, int, int], ...]) -> str:
    """Cached by the files' sizes and times: the cases of a spec often share one file."""
    digest = hashlib.sha256()
    for name, size, _ in files:
        digest.update(b"%d\n" % size)
        with Path(name).open("rb") as file:
            while block := file.read(READ_BYTES):
                digest.update(block)
    return digest.hexdigest()
