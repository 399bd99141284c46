"""TorchScript by tracing: ``torch.jit.trace``, which records what one call does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.exporters import Artifact, Format
from harness.exporters._files import staged
from harness.exporters._refusals import refusals_named
from harness.exporters._torchscript_file import digest_of

if TYPE_CHECKING:
    from harness.model.subject import Subject


class Trace:
    """``torch.jit.trace(module, inputs)``, with its own check of the trace left on."""

    name = "trace"
    makes: Format = "torchscript"

    def opsets(self) -> range:
        """None: TorchScript has no opsets."""
        return range(0)

    def export(self, subject: Subject, path: Path, *, opset: int | None, fixes: bool) -> Artifact:
        """See :class:`harness.exporters.Exporter`; with ``fixes`` the module is :func:`harness.fixes.corrected`."""
        import torch

        from harness.fixes import corrected

        del opset
        module, inputs = subject.fresh()
        with refusals_named():
            traced = torch.jit.trace(corrected(module) if fixes else module, inputs)  # type: ignore[no-untyped-call]
        with staged(path) as draft:
            torch.jit.save(traced, draft)
            digest = digest_of(draft)
        return Artifact("torchscript", path, digest)


PROVIDES = (Trace(),)
