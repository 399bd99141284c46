"""Exporters that start from ``torch.export.export``: ``export`` saves the program, ``aoti`` compiles it.

``aoti`` uses AOTInductor to compile the program ahead of time into a library for the CPU of this machine.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import Unsupported
from harness.exporters import Artifact, ExportOptions, Format
from harness.exporters._files import refusals_as_unsupported, sha256, staged_write
from harness.exporters._torch_state import as_in_a_fresh_process
from harness.spec.language.inputs.structure import arguments

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from harness.model.build import Subject


_SWITCHES = {
    "strict": "trace through TorchDynamo (torch's default: off)",
    "prefer_deferred_runtime_asserts_over_guards": "check conditions on shapes at run time (torch's default: off)",
}


class Export(ExportOptions):
    """``torch.export.save(torch.export.export(module, inputs))``."""

    name = "export"
    makes: Format = "program"
    switches: Mapping[str, str] = _SWITCHES

    def opsets(self) -> range:
        """Empty: a program has no opsets."""
        return range(0)

    def export(self, subject: Subject, path: Path, *, opset: int | None, fixes: bool, **options: Any) -> Artifact:
        """See :class:`harness.exporters.Exporter`; with ``fixes`` the module is :func:`harness.fixes.corrected`."""
        import torch

        del opset
        program = exported_program(subject, fixes=fixes, **self.arguments(options))
        with staged_write(path) as staging_path:
            torch.export.save(program, staging_path)
            digest = sha256(staging_path)
        return Artifact("program", path, digest)


class Aoti(ExportOptions):
    """``torch._inductor.aoti_compile_and_package``, which calls the C++ compiler: seconds, and minutes the first time.

    The number of threads is left open in the library, so that its runtime can set it.
    """

    name = "aoti"
    makes: Format = "aoti"
    switches: Mapping[str, str] = _SWITCHES

    def opsets(self) -> range:
        """Empty: a compiled library has no opsets."""
        return range(0)

    def export(self, subject: Subject, path: Path, *, opset: int | None, fixes: bool, **options: Any) -> Artifact:
        """See :class:`harness.exporters.Exporter`; with ``fixes`` the module is :func:`harness.fixes.corrected`."""
        from torch._inductor import aoti_compile_and_package

        del opset
        if subject.mode == "train":
            raise Unsupported("AOTInductor compiles for inference only; use mode: eval")
        if subject.structure is not None:
            raise Unsupported("harness cannot call a compiled library with nested inputs; use export/compile-cpu")
        program = exported_program(subject, fixes=fixes, **self.arguments(options))
        with staged_write(path) as staging_path:
            aoti_compile_and_package(
                program,
                package_path=str(staging_path),
                inductor_configs={"compile_threads": 1, "cpp.dynamic_threads": True},
            )
            digest = sha256(staging_path)
        return Artifact("aoti", path, digest, notes=("compiled for the CPU of this machine",))


def exported_program(subject: Subject, *, fixes: bool, **options: Any) -> ExportedProgram:
    """``torch.export.export(module, inputs)`` with the subject's dynamic axes; with ``fixes``, of the corrected module.

    Raises :class:`harness.errors.Unsupported` if the exporter refuses.
    """
    import torch

    from harness.fixes import corrected

    module, inputs = subject.fresh(aliased=True)
    axes = dynamic_shapes(module, subject, torch.export.Dim.DYNAMIC)
    with refusals_as_unsupported(), as_in_a_fresh_process():
        return torch.export.export(corrected(module) if fixes else module, inputs, dynamic_shapes=axes, **options)


def dynamic_shapes(module: nn.Module, subject: Subject, dimension: Any = None) -> dict[str, Any] | None:
    """The names of the dynamic axes by the parameter names of ``forward``, as ``torch.onnx.export`` takes them.

    ``dimension`` takes the place of every name, if it is given. None if no axis is dynamic.
    """
    if not subject.dynamic:
        return None
    dynamic = subject.dynamic
    by_label = {label: dict(dynamic[label]) if label in dynamic else None for label in subject.inputs}
    if dimension is not None:
        by_label = {label: names and dict.fromkeys(names, dimension) for label, names in by_label.items()}
    axes = tuple(by_label.values()) if subject.structure is None else arguments(subject.structure, by_label)
    return dict(inspect.signature(module.forward).bind(*axes).arguments)


PROVIDES = (Export(), Aoti())
