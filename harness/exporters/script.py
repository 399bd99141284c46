"""TorchScript by compiling: ``torch.jit.script``, which keeps the module's control flow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.exporters import Artifact, Format
from harness.exporters._files import staged
from harness.exporters._refusals import refusals_named
from harness.exporters._torchscript_file import digest_of

if TYPE_CHECKING:
    from harness.model.subject import Subject


class Script:
    """``torch.jit.script(module)``.

    A script that fails leaves state behind in the process (a second ``MaxUnpool2d`` fails with
    another error than the first), so the caller should not trust a process after one.
    """

    name = "script"
    makes: Format = "torchscript"

    def opsets(self) -> range:
        """None: TorchScript has no opsets."""
        return range(0)

    def export(self, subject: Subject, path: Path, *, opset: int | None, fixes: bool) -> Artifact:
        """See :class:`harness.exporters.Exporter`; with ``fixes`` the module is :func:`harness.fixes.corrected`."""
        import torch

        from harness.fixes import corrected

        del opset
        module, _ = subject.fresh()
        with refusals_named():
            scripted = torch.jit.script(corrected(module) if fixes else module)
        with staged(path) as draft:
            torch.jit.save(scripted, draft)
            digest = digest_of(draft)
        return Artifact("torchscript", path, digest)


PROVIDES = (Script(),)
