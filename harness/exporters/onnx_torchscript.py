"""ONNX through TorchScript: ``torch.onnx.export(dynamo=False)``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import Unsupported, UsageError
from harness.exporters import Artifact, ExportOptions, Format
from harness.exporters._files import refusals_as_unsupported, staged_write
from harness.exporters._onnx import checked_artifact, default_opset, positional, torchscript_opsets
from harness.exporters._tracer_warnings import recorded_tracer_warnings

if TYPE_CHECKING:
    from torch import nn

    from harness.model.build import Subject

_PROTOBUF_LIMIT = 2**31
_TRAINING = ("eval", "preserve", "training")
_EXPORTED_IN_EVAL_MODE = "the module is in training mode, but the exporter's default exports it in evaluation mode"


class OnnxTorchScript(ExportOptions):
    """``torch.onnx.export(module, inputs, path, dynamo=False)``.

    For a module in training mode the exporter's default writes the evaluation form without a warning. Without fixes
    this default is used. With fixes the mode of the module is kept (``TrainingMode.PRESERVE``). The option ``training``
    sets it.
    """

    name = "onnx-torchscript"
    makes: Format = "onnx"
    switches: Mapping[str, str] = {
        "do_constant_folding": "compute what depends on no input (torch's default: on)",
        "keep_initializers_as_inputs": "list the weights among the inputs too (torch's default: off)",
        "export_modules_as_functions": "write each module as a function (torch's default: off)",
        "autograd_inlining": "write what autograd functions compute (torch's default: on)",
    }

    @property
    def options(self) -> Mapping[str, str]:
        """See :class:`harness.exporters.ExportOptions`."""
        return {**super().options, "training": f"the mode of the exported module: {', '.join(_TRAINING)}"}

    def arguments(self, options: Mapping[str, str]) -> dict[str, Any]:
        """See :class:`harness.exporters.ExportOptions`."""
        training = options.get("training")
        if training is not None and training.lower() not in _TRAINING:
            raise UsageError(f"training={training} is unknown; write {', '.join(_TRAINING)}")
        switches = super().arguments({name: value for name, value in options.items() if name != "training"})
        return switches if training is None else switches | {"training": training}

    def opsets(self) -> range:
        """See :class:`harness.exporters.Exporter`."""
        return torchscript_opsets()

    def export(self, subject: Subject, path: Path, *, opset: int | None, fixes: bool, **options: Any) -> Artifact:
        """See :class:`harness.exporters.Exporter`; with ``fixes``, :mod:`harness.fixes` is in force for this call."""
        import torch

        from harness.fixes import corrected

        module, inputs = subject.fresh()
        _require_protobuf_size(module)
        arguments = self.arguments(options)
        default = "preserve" if fixes else "eval"
        mode = getattr(torch.onnx.TrainingMode, arguments.pop("training", default).upper())

        names = list(subject.inputs), subject.output_names
        with recorded_tracer_warnings() as places, staged_write(path) as staging_path:
            with refusals_as_unsupported(), _corrected_symbolics(opset) if fixes else nullcontext():
                torch.onnx.export(
                    corrected(module) if fixes else module,
                    positional(inputs),
                    staging_path,
                    dynamo=False,
                    opset_version=opset,
                    input_names=names[0],
                    output_names=names[1],
                    dynamic_axes={label: dict(axes) for label, axes in subject.dynamic.items()},
                    training=mode,
                    **arguments,
                )
            expected = ([] if subject.may_drop_inputs else names[0]), names[1]
            artifact = checked_artifact(self.name, staging_path, path, opset, expected, kept=places)
        notes = () if mode != torch.onnx.TrainingMode.EVAL or subject.mode == "eval" else (_EXPORTED_IN_EVAL_MODE,)
        return replace(artifact, notes=notes, tracer_warnings=tuple(places))


def _corrected_symbolics(opset: int | None) -> AbstractContextManager[None]:
    from harness.fixes import LOWEST_OPSET, torchscript_symbolics

    opset = opset or default_opset()
    if opset < LOWEST_OPSET:
        raise Unsupported(
            f"the corrected lowerings need opset {LOWEST_OPSET} or above, not {opset}; use @{LOWEST_OPSET}"
        )
    return torchscript_symbolics(opset)


def _require_protobuf_size(module: nn.Module) -> None:
    from harness.model.weights import tensors_of_state

    weight_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors_of_state(module).values())
    if weight_bytes >= _PROTOBUF_LIMIT:
        raise Unsupported(
            f"the weights take {weight_bytes / 2**30:.1f} GiB and an ONNX file holds at most 2 GiB; "
            "use onnx-dynamo, which writes weights to a separate file"
        )


PROVIDES = (OnnxTorchScript(),)
