"""Tells an exporter's own "I do not support this" from every other way to fail.

Artifacts appear whole or not at all.

What ``torch.export`` makes of a subject, for the exporters that go on from there.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import Unsupported
from harness.forked import end_if_forked

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from harness.model.build import Subject


@contextmanager
def refusals_named() -> Iterator[None]:
    """Turn a refusal of the exporter into :class:`Unsupported` with its one-line root cause.

    Every other exception passes unchanged.
    """
    try:
        yield
    except Exception as error:
        reason = refusal(error)
        if reason is None:
            raise
        raise Unsupported(reason, of_library=True) from error


def is_refusal(error: Exception) -> bool:
    """True for what :func:`refusals_named` made of a refusal."""
    return isinstance(error, Unsupported) and error.of_library


def refusal(error: BaseException) -> str | None:
    """What the exporter says that it does not support, in one line; None where ``error`` is another failure."""
    return next((_one_line(cause) for cause in _causes(error) if _refuses(cause)), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what it was raised from, the nearest first."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        nearest = None if cause.__suppress_context__ else cause.__context__
        cause = nearest if cause.__cause__ is None else cause.__cause__


def _refuses(error: BaseException) -> bool:
    """By class where the class is public; by the exporter's fixed words where one class serves for much else."""
    from torch.jit.frontend import NotSupportedError
    from torch.onnx import OnnxExporterError
    from torch.onnx.errors import UnsupportedOperatorError

    if isinstance(error, (UnsupportedOperatorError, NotSupportedError)):
        return True
    words = ("No ONNX function found for", "Unsupported: ONNX export of")
    return isinstance(error, OnnxExporterError) and str(error).startswith(words)


def _one_line(error: BaseException) -> str:
    first = str(error).strip().partition("\n")[0]
    return first.partition(". Please")[0]


BLOCK = 1 << 20


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A place to write an artifact to, under its own name; on leaving well it is at ``path``, else nothing new is.

    The name stays, because a TorchScript archive and a reference to external data both hold it. In an empty folder the
    place is ``path`` itself, since making a folder more and removing it takes longer than many exports' files.
    """
    folder, process = path.parent, os.getpid()
    if _holds_something(folder):
        with _aside(path) as draft:
            yield draft
        return
    try:
        yield path
    except BaseException:
        end_if_forked(process)
        for written in folder.iterdir():
            written.unlink()
        raise


def _holds_something(folder: Path) -> bool:
    """False also where there was no such folder; there is one now."""
    try:
        with os.scandir(folder) as held:
            return any(held)
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        return False


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """What else is written there (external data) moves first, so that the artifact never stands without it."""
    process = os.getpid()
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=path.parent) as folder:
        draft = Path(folder, path.name)
        try:
            yield draft
        finally:
            end_if_forked(process)
        for companion in companions(draft):
            companion.replace(path.parent / companion.name)
        draft.replace(path)


def companions(path: Path) -> list[Path]:
    """What else is in the folder of ``path``, by name."""
    return sorted(other for other in path.parent.iterdir() if other.name != path.name)


def sha256(*files: Path | bytes) -> str:
    """The SHA-256 of the files, or of what they hold, one after another, as hexadecimal digits."""
    digest = hashlib.sha256()
    for path in files:
        if isinstance(path, bytes):
            digest.update(path)
            continue
        with path.open("rb") as file:
            # To ask for a whole block is to have room made for it, which takes longer than a small file.
            block = min(BLOCK, os.fstat(file.fileno()).st_size + 1)
            while held := file.read(block):
                digest.update(held)
    return digest.hexdigest()


def program(subject: Subject, *, fixes: bool) -> ExportedProgram:
    """``torch.export.export(module, inputs)`` with the open axes; with ``fixes``, of the corrected module."""
    import torch

    from harness.fixes import corrected

    module, inputs = subject.fresh()
    dynamic = torch.export.Dim.DYNAMIC
    axes = {
        name: axes and dict.fromkeys(axes, dynamic) for name, axes in (dynamic_shapes(module, subject) or {}).items()
    }
    with refusals_named():
        return torch.export.export(corrected(module) if fixes else module, inputs, dynamic_shapes=axes or None)


def dynamic_shapes(module: nn.Module, subject: Subject) -> dict[str, Any] | None:
    """The names of the open axes by those of ``forward``'s own parameters, as torch.onnx.export wants them."""
    if not subject.dynamic:
        return None
    axes = [dict(subject.dynamic[label]) if label in subject.dynamic else None for label in subject.inputs]
    return dict(inspect.signature(module.forward).bind(*axes).arguments)
