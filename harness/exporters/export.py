"""A ``torch.export`` program: ``torch.export.export``, saved, for what compiles it where it runs.

AOTInductor: a ``torch.export`` program compiled ahead of time into a library for this kind of CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import Unsupported
from harness.exporters import Artifact, Format
from harness.exporters._files import program, sha256, staged

if TYPE_CHECKING:
    from harness.model.build import Subject


class Export:
    """``torch.export.save(torch.export.export(module, inputs))``."""

    name = "export"
    makes: Format = "program"

    def opsets(self) -> range:
        """None: a program has no opsets."""
        return range(0)

    def export(self, subject: Subject, path: Path, *, opset: int | None, fixes: bool) -> Artifact:
        """See :class:`harness.exporters.Exporter`; with ``fixes`` the module is :func:`harness.fixes.corrected`."""
        import torch

        del opset
        exported = program(subject, fixes=fixes)
        with staged(path) as draft:
            torch.export.save(exported, draft)
            digest = sha256(draft)
        return Artifact("program", path, digest)


class Aoti:
    """``torch._inductor.aoti_compile_and_package``, which calls the C++ compiler: seconds, and minutes the first time.

    How many threads are used is left open in the library, so that its runtime can set it.
    """

    name = "aoti"
    makes: Format = "aoti"

    def opsets(self) -> range:
        """None: a library has no opsets."""
        return range(0)

    def export(self, subject: Subject, path: Path, *, opset: int | None, fixes: bool) -> Artifact:
        """See :class:`harness.exporters.Exporter`; with ``fixes`` the module is :func:`harness.fixes.corrected`."""
        from torch._inductor import aoti_compile_and_package

        del opset
        if subject.mode == "train":
            raise Unsupported("AOTInductor compiles for inference; use mode: eval")
        exported = program(subject, fixes=fixes)
        with staged(path) as draft:
            aoti_compile_and_package(
                exported,
                package_path=str(draft),
                inductor_configs={"compile_threads": 1, "cpp.dynamic_threads": True},
            )
            digest = sha256(draft)
        return Artifact("aoti", path, digest, notes=("compiled for the CPU of this machine",))


PROVIDES = (Export(), Aoti())
