"""One exporter a file; this is what each of them is, and what it makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from harness.model.build import Subject

Format = Literal["torchscript", "onnx", "program", "aoti"]


@dataclass(frozen=True, slots=True)
class Artifact:
    """An exported file on disk.

    ``digest`` is the SHA-256 of the file; of a TorchScript archive, of what it holds, since torch numbers its classes
    by what the process did before. ``opset`` is the opset of the default ONNX domain, None for TorchScript.
    ``checker`` is what ``onnx.checker`` with full checks objected to.
    ``notes`` are what the reader should know although the export succeeded.
    """

    format: Format
    path: Path
    digest: str
    opset: int | None = None
    checker: str | None = None
    notes: tuple[str, ...] = ()


class Exporter(Protocol):
    """Turns a built model into a file that a runtime loads.

    ``name`` is the target's first word; ``makes`` says which runtimes can take the artifact.
    The module that defines an exporter imports torch inside its functions only.
    """

    name: str
    makes: Format

    def opsets(self) -> range:
        """The opsets that ``@OPSET`` may name, by the installed stack; empty where there are none. May import torch."""
        ...

    def export(self, subject: Subject, path: Path, *, opset: int | None, fixes: bool) -> Artifact:
        """Write the artifact to ``path``.

        Raises :class:`harness.errors.Unsupported` where the exporter itself says that it does
        not do this, and lets every other exception of the library through unchanged.
        """
        ...
