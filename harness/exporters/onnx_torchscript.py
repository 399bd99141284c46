"""ONNX through TorchScript: ``torch.onnx.export(dynamo=False)``."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import Unsupported
from harness.exporters import Artifact, Format
from harness.exporters._files import refusals_named
from harness.exporters._onnx import default_opset, torchscript_opsets, written

if TYPE_CHECKING:
    from torch import nn

    from harness.model.build import Subject

_PROTOBUF_LIMIT = 2**31
_EVALUATION = "the module is in training mode, and the exporter's default wrote its evaluation form"


class OnnxTorchScript:
    """``torch.onnx.export(module, inputs, path, dynamo=False)``.

    A module in training mode: the exporter's default writes its evaluation form without a word,
    and stock is that default. With fixes the module's mode is kept (``TrainingMode.PRESERVE``).
    """

    name = "onnx-torchscript"
    makes: Format = "onnx"

    def opsets(self) -> range:
        """See :class:`harness.exporters.Exporter`."""
        return torchscript_opsets()

    def export(self, subject: Subject, path: Path, *, opset: int | None, fixes: bool) -> Artifact:
        """See :class:`harness.exporters.Exporter`; with ``fixes``, :mod:`harness.fixes` is in force for this call."""
        import torch

        from harness.fixes import corrected

        module, inputs = subject.fresh()
        _fits_protobuf(module)
        mode = torch.onnx.TrainingMode.PRESERVE if fixes else torch.onnx.TrainingMode.EVAL

        def write(draft: Path) -> None:
            with refusals_named(), _symbolics(opset) if fixes else nullcontext():
                torch.onnx.export(
                    corrected(module) if fixes else module,
                    inputs,
                    draft,
                    dynamo=False,
                    opset_version=opset,
                    input_names=list(subject.inputs),
                    output_names=subject.output_names,
                    dynamic_axes={label: dict(axes) for label, axes in subject.dynamic.items()},
                    training=mode,
                )

        artifact = written(self.name, subject, path, opset, write)
        return artifact if fixes or subject.mode == "eval" else replace(artifact, notes=(_EVALUATION,))


def _symbolics(opset: int | None) -> AbstractContextManager[None]:
    from harness.fixes import LOWEST_OPSET, torchscript_symbolics

    opset = opset or default_opset()
    if opset < LOWEST_OPSET:
        raise Unsupported(
            f"the corrected lowerings cannot be written at opset {opset}; ask for @{LOWEST_OPSET} or above"
        )
    return torchscript_symbolics(opset)


def _fits_protobuf(module: nn.Module) -> None:
    weights = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    if weights >= _PROTOBUF_LIMIT:
        raise Unsupported(
            f"the weights take {weights / 2**30:.1f} GiB and an ONNX file holds at most 2; "
            "onnx-dynamo writes them beside the model"
        )


PROVIDES = (OnnxTorchScript(),)
