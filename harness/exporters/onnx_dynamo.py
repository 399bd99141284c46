"""ONNX through torch.export: ``torch.onnx.export(dynamo=True)``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.exporters import Artifact, Format
from harness.exporters._applied import Watched
from harness.exporters._dynamo_sharing import captured, sharing
from harness.exporters._dynamo_speed import quick
from harness.exporters._levers import fall_back, news
from harness.exporters._onnx_file import written
from harness.exporters._opsets import dynamo_opsets
from harness.exporters._program import dynamic_shapes
from harness.exporters._refusals import is_refusal, refusals_named

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
            watched = Watched(translation_table() if fixes else {})
            with refusals_named(), quick(), sharing(subject) as (module, inputs):
                made = torch.onnx.export(
                    module,
                    inputs,
                    draft,
                    dynamo=True,
                    opset_version=opset,
                    input_names=list(subject.inputs),
                    output_names=subject.output_names,
                    dynamic_shapes=dynamic_shapes(module, subject),
                    custom_translation_table=watched.table if fixes else None,
                    external_data=False,
                    verbose=False,
                )
            watched.confirm(captured(subject), None if made is None else made.exported_program)

        def write_quickly(draft: Path) -> None:
            # What the exporter itself says that it does not do, it says without the levers too.
            fall_back(lambda: write(draft), believed=is_refusal)

        artifact = written(self.name, subject, path, opset, write_quickly)
        told = news()
        return artifact if told is None else replace(artifact, notes=(*artifact.notes, told))


PROVIDES = (OnnxDynamo(),)
