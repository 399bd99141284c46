"""A ``torch.export`` program: ``torch.export.export``, saved, for what compiles it where it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.exporters import Artifact, Format
from harness.exporters._files import sha256, staged
from harness.exporters._program import program

if TYPE_CHECKING:
    from harness.model.subject import Subject


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


PROVIDES = (Export(),)
