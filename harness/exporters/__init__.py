"""The protocol of exporters, and the artifact that an exporter writes. Each module of this package adds exporters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from harness.model.build import Subject

Format = Literal["torchscript", "onnx", "ort", "program", "aoti"]


@dataclass(frozen=True, slots=True)
class Artifact:
    """An exported file on disk.

    ``digest`` is the SHA-256 of the file. For a TorchScript archive it is the SHA-256 of the archive's contents,
    because torch numbers classes by what the process did before. ``opset`` is the opset of the default ONNX domain,
    None for other formats. ``checker`` is the first error of ``onnx.checker`` with full checks, None if there is none.
    ``notes`` are remarks on an export that succeeded.
    """

    format: Format
    path: Path
    digest: str
    opset: int | None = None
    checker: str | None = None
    notes: tuple[str, ...] = ()


BOOLEAN = ("true", "false")
"""The values of an option that is a boolean."""
NO_OPTIONS: Mapping[str, str] = {}


def as_arguments(options: Mapping[str, str]) -> dict[str, Any]:
    """The options of a target as keyword arguments: ``true`` and ``false`` as booleans, other words as they are."""
    return {name: value == "true" if value in BOOLEAN else value for name, value in options.items()}


class Exporter(Protocol):
    """Exports a built model to a file that a runtime loads.

    ``name`` is the first word of a target. ``makes`` is the format of the artifact; runtimes that take this format can
    load it. The module that defines an exporter imports torch only inside functions.

    An exporter may also have ``options``, a mapping from the exporter's own arguments to the texts that a target may
    give for them (:data:`BOOLEAN`, for example). ``export`` then takes the given ones as ``options``, if there are any.
    """

    name: str
    makes: Format

    def opsets(self) -> range:
        """The opsets that ``@OPSET`` may name with the installed libraries; empty if the format has no opsets.

        May import torch.
        """
        ...

    def export(self, subject: Subject, path: Path, *, opset: int | None, fixes: bool) -> Artifact:
        """Write the artifact to ``path``.

        Raises :class:`harness.errors.Unsupported` if the exporter itself reports that it does not support the model.
        Other exceptions of the library pass through unchanged.
        """
        ...
