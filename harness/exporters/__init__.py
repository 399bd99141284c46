"""The protocol of exporters, their options, and the artifact that one writes. Each module here adds exporters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.model.build import Subject
    from harness.spec.language.inputs.structure import Structure

Format = Literal["torchscript", "onnx", "ort", "program", "aoti"]


@dataclass(frozen=True, slots=True)
class Artifact:
    """An exported file on disk.

    ``digest`` is the SHA-256 of the file. For a TorchScript archive it is the SHA-256 of the archive's contents,
    because torch numbers classes by what the process did before. ``opset`` is the opset of the default ONNX domain,
    None for other formats. ``checker`` is the first error of ``onnx.checker`` with full checks, None if there is none.
    ``notes`` are remarks on an export that succeeded. ``tracer_warnings`` are the lines of source, with
    their places, at which torch's tracer warned that the export keeps a value of its example inputs. ``structure`` says
    how a TorchScript file under test takes nested inputs, None if by position or if the file says it itself.
    """

    format: Format
    path: Path
    digest: str
    opset: int | None = None
    checker: str | None = None
    notes: tuple[str, ...] = ()
    tracer_warnings: tuple[str, ...] = ()
    structure: Structure | None = None


class Exporter(Protocol):
    """Exports a built model to a file that a runtime loads.

    ``name`` is the first word of a target. ``makes`` is the format of the artifact; runtimes that take this format can
    load it. The module that defines an exporter imports torch only inside functions.

    """

    name: str
    makes: Format

    def opsets(self) -> range:
        """The opsets that ``@OPSET`` may name with the installed libraries; empty if the format has no opsets.

        May import torch.
        """
        ...

    def export(self, subject: Subject, path: Path, *, opset: int | None, fixes: bool, **options: Any) -> Artifact:
        """Write the artifact to ``path``. ``options`` are arguments of the library's own function, by name.

        An exporter that takes some has an attribute ``options`` that describes them, and a method ``check``; see
        :class:`harness.exporters.ExportOptions`.

        Raises :class:`harness.errors.Unsupported` if the exporter itself reports that it does not support the model.
        Other exceptions of the library pass through unchanged.
        """
        ...


_SWITCH = {"on": True, "true": True, "off": False, "false": False}


class ExportOptions:
    """A base of exporters with options: arguments of the library's own function, written ``name=value`` in a target.

    ``switches`` are the arguments that are on or off, with their meaning.
    """

    switches: Mapping[str, str] = {}

    @property
    def options(self) -> Mapping[str, str]:
        """The options that a target may set, each with one line on its meaning and its values."""
        return {name: f"{meaning}: on or off" for name, meaning in self.switches.items()}

    def check(self, options: Mapping[str, str]) -> None:
        """Raise :class:`UsageError` for a value that is not accepted."""
        self.arguments(options)

    def arguments(self, options: Mapping[str, str]) -> dict[str, Any]:
        """The arguments of the library's function. Raises :class:`UsageError` for a value that is not accepted."""
        arguments: dict[str, Any] = {}
        for name, value in options.items():
            if value.lower() not in _SWITCH:
                raise UsageError(f"{name}={value} is unknown; write on or off")
            arguments[name] = _SWITCH[value.lower()]
        return arguments
