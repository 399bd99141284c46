"""ONNX through torch.export: ``torch.onnx.export(dynamo=True)``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.exporters import Artifact, Format
from harness.exporters._dynamo_sharing import sharing
from harness.exporters._dynamo_speed import quick
from harness.exporters._onnx_file import written
from harness.exporters._opsets import dynamo_opsets
from harness.exporters._program import dynamic_shapes
from harness.exporters._refusals import refusals_named

if TYPE_CHECKING:
    from harness.model.subject import Subject


class OnnxDynamo:
    """``torch.onnx.export(module, inputs, path, dynamo=True)``.

    The exporter writes opset 18 or above and converts to the opset asked for. Weights stay
    inside the file up to 1.5 GiB; above, the exporter writes them to ``<name>.data`` beside it.
    """

    name = "onnx-dynamo"
    makes: Format = "onnx"

    def opsets(self) -> range:
        """See :class:`harness.exporters.Exporter`."""
        return dynamo_opsets()

    def export(self, subject: Subject, path: Path, *, opset: int | None, fixes: bool) -> Artifact:
        """See :class:`harness.exporters.Exporter`; with ``fixes``, the translation table of :mod:`harness.fixes`."""
        import torch

        from harness.fixes import translation_table

        def write(draft: Path) -> None:
            with refusals_named(), quick(), sharing(subject) as (module, inputs):
                torch.onnx.export(
                    module,
                    inputs,
                    draft,
                    dynamo=True,
                    opset_version=opset,
                    input_names=list(subject.inputs),
                    output_names=subject.output_names,
                    dynamic_shapes=dynamic_shapes(module, subject),
                    custom_translation_table=translation_table() if fixes else None,
                    external_data=False,
                    verbose=False,
                )

        return written(self.name, subject, path, opset, write)


PROVIDES = (OnnxDynamo(),)
