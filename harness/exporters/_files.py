"""How an export ends: with a complete file on disk and its digest, or with a refusal in one line.

A refusal is the exporter's own report that it does not support a model; every other exception is a failure.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import Unsupported
from harness.forked import exit_if_forked
from harness.spec.language.inputs.structure import Structure, from_json, to_json

if TYPE_CHECKING:
    from harness.model.build import Subject

_BLOCK_SIZE = 1 << 20
_BLOCK_ROWS, _BLOCK_COLUMNS = 1024, 16
_REFUSAL_PREFIXES = ("No ONNX function found for", "Unsupported: ONNX export of")


@contextmanager
def staged_write(path: Path) -> Iterator[Path]:
    """Yield a path to write to. After the block the file is complete at ``path``; after an exception nothing new is.

    The file name is that of ``path``, because a TorchScript archive and a reference to external data both store it.
    In an empty folder the yielded path is ``path`` itself: creating and removing one more folder takes longer than
    writing many exports' files.
    """
    folder, process = path.parent, os.getpid()
    if _has_entries(folder):
        with _written_beside(path) as staging_path:
            yield staging_path
        return
    try:
        yield path
    except BaseException:
        exit_if_forked(process)
        for partial in folder.iterdir():
            partial.unlink()
        raise


def _has_entries(folder: Path) -> bool:
    """Whether ``folder`` contains anything. Creates it if it does not exist."""
    try:
        with os.scandir(folder) as entries:
            return any(entries)
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        return False


@contextmanager
def _written_beside(path: Path) -> Iterator[Path]:
    """Write in a temporary folder, then move: other files (external data) first, so ``path`` never lacks them."""
    process = os.getpid()
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=path.parent) as folder:
        staging_path = Path(folder, path.name)
        try:
            yield staging_path
        finally:
            exit_if_forked(process)
        for sibling in sibling_files(staging_path):
            sibling.replace(path.parent / sibling.name)
        staging_path.replace(path)


def sibling_files(path: Path) -> list[Path]:
    """The other entries in the folder of ``path``, sorted by name."""
    return sorted(sibling for sibling in path.parent.iterdir() if sibling.name != path.name)


def sha256(*files: Path | bytes) -> str:
    """The SHA-256 of the files, or of their contents, one after another, as hexadecimal digits."""
    digest = hashlib.sha256()
    for path in files:
        if isinstance(path, bytes):
            digest.update(path)
            continue
        with path.open("rb") as file:
            # Reading allocates as many bytes as are requested: for a small file, a whole block takes longer than
            # the file itself.
            block_size = min(_BLOCK_SIZE, os.fstat(file.fileno()).st_size + 1)
            while block := file.read(block_size):
                digest.update(block)
    return digest.hexdigest()


def in_memory_order(array: NDArray[Any]) -> NDArray[Any]:
    """``array`` if its elements are in order in memory, else a copy of it in which they are.

    NumPy writes any other array to a file one element at a time: 6 s for 1 GiB of transposed weights, as the optimizer
    leaves those of ``nn.Linear``. Its own copy of such an array takes up to 2 s. Blocks whose lines stay in the
    processor's cache take 0.3 s.
    """
    if array.flags.c_contiguous:
        return array
    if array.ndim < 2:
        return array.copy()
    ordered = np.empty(array.shape, array.dtype)
    rows, columns = array.shape[-2:]
    for row in range(0, rows, _BLOCK_ROWS):
        for column in range(0, columns, _BLOCK_COLUMNS):
            block = (..., slice(row, row + _BLOCK_ROWS), slice(column, column + _BLOCK_COLUMNS))
            ordered[block] = array[block]
    return ordered


@contextmanager
def refusals_as_unsupported() -> Iterator[None]:
    """Turn a refusal of the exporter into :class:`Unsupported` with the root cause in one line.

    Every other exception passes unchanged.
    """
    try:
        yield
    except Exception as error:
        reason = refusal_reason(error)
        if reason is None:
            raise
        raise Unsupported(reason, from_library=True) from error


def is_refusal(error: Exception) -> bool:
    """True for an exception that :func:`refusals_as_unsupported` made from a refusal."""
    return isinstance(error, Unsupported) and error.from_library


def refusal_reason(error: BaseException) -> str | None:
    """What the exporter does not support, in one line; None if ``error`` is another failure."""
    return next((_first_clause(cause) for cause in _exception_chain(error) if _is_library_refusal(cause)), None)


def _exception_chain(error: BaseException) -> Iterator[BaseException]:
    """``error`` and the exceptions that it was raised from, the nearest first."""
    visited: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in visited:
        visited.add(id(cause))
        yield cause
        context = None if cause.__suppress_context__ else cause.__context__
        cause = context if cause.__cause__ is None else cause.__cause__


def _is_library_refusal(error: BaseException) -> bool:
    """By class if the class is public; by the exporter's fixed words if one class serves for other failures too."""
    from torch.jit.frontend import NotSupportedError
    from torch.onnx import OnnxExporterError
    from torch.onnx.errors import UnsupportedOperatorError

    if isinstance(error, (UnsupportedOperatorError, NotSupportedError)):
        return True
    return isinstance(error, OnnxExporterError) and str(error).startswith(_REFUSAL_PREFIXES)


def _first_clause(error: BaseException) -> str:
    first_line = str(error).strip().partition("\n")[0]
    return first_line.partition(". Please")[0]


STRUCTURE_FILE = "harness_inputs.json"
"""In an archive of torch: how the module takes its inputs, if they are nested."""


def structure_files(subject: Subject) -> dict[str, str]:
    """The extra file of a torch archive that says how the module takes nested inputs; none if by position."""
    return {} if subject.structure is None else {STRUCTURE_FILE: json.dumps(to_json(subject.structure))}


def read_structure(extra_files: Mapping[str, str | bytes]) -> Structure | None:
    """The structure in the extra files that torch has read; None if there is none."""
    text = extra_files.get(STRUCTURE_FILE)
    return from_json(json.loads(text)) if text else None
