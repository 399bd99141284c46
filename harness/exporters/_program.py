"""What ``torch.export`` makes of a subject, for the exporters that go on from there."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from harness.exporters._refusals import refusals_named

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from harness.model.subject import Subject


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
