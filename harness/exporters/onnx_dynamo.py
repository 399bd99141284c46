"""ONNX through ``torch.export``: ``torch.onnx.export(dynamo=True)``.

With fixes, the export is refused if torch did not use the corrected lowerings, so ``+fixes`` is never a stock export.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import Unsupported
from harness.exporters import Artifact, ExportOptions, Format
from harness.exporters._dynamo_cache import cached_tables, unrelated_to
from harness.exporters._dynamo_sharing import captured_program, shared_programs
from harness.exporters._files import is_refusal, refusals_as_unsupported, staged_write
from harness.exporters._onnx import checked_artifact, dynamo_opsets, positional
from harness.exporters._speed_ups import fallback_note, with_fallback
from harness.exporters._torch_state import as_in_a_fresh_process
from harness.exporters.export import dynamic_shapes

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from harness.model.build import Subject

Function = Callable[..., Any]

EXTERNAL_DATA_BYTES = 64 << 20
"""From this size of all weights on, they are written to a file of their own."""


class OnnxDynamo(ExportOptions):
    """``torch.onnx.export(module, inputs, path, dynamo=True)``.

    The exporter writes opset 18 or above and converts to the requested opset. Weights stay inside the file up to
    64 MiB; above, they go to ``<name>.data`` in the same folder, which is written and read without copies in memory.
    """

    name = "onnx-dynamo"
    makes: Format = "onnx"
    switches: Mapping[str, str] = {
        "optimize": "onnxscript's optimizer (torch's default: on)",
        "keep_initializers_as_inputs": "list the weights among the inputs too (torch's default: off)",
        "external_data": "write the weights to a file of their own (harness's default: from 64 MiB on)",
        "verify": "torch's own comparison with ONNX Runtime (torch's default: off)",
    }

    def opsets(self) -> range:
        """See :class:`harness.exporters.Exporter`."""
        return dynamo_opsets()

    def export(self, subject: Subject, path: Path, *, opset: int | None, fixes: bool, **options: Any) -> Artifact:
        """See :class:`harness.exporters.Exporter`; with ``fixes``, the translation table of :mod:`harness.fixes`."""
        import torch

        from harness.fixes import translation_table
        from harness.model.running import size_in_bytes

        is_large = size_in_bytes(subject.module) >= EXTERNAL_DATA_BYTES
        arguments = {"external_data": is_large} | self.arguments(options)
        names = list(subject.inputs), subject.output_names

        def write(staging_path: Path) -> None:
            recording = RecordingTable(translation_table() if fixes else {})
            with (
                refusals_as_unsupported(),
                as_in_a_fresh_process(),
                cached_tables(),
                shared_programs(subject) as (module, inputs),
            ):
                onnx_program = torch.onnx.export(
                    module,
                    positional(inputs),
                    staging_path,
                    dynamo=True,
                    opset_version=opset,
                    input_names=names[0],
                    output_names=names[1],
                    dynamic_shapes=dynamic_shapes(module, subject),
                    custom_translation_table=recording.table if fixes else None,
                    verbose=False,
                    **arguments,
                )
            final_program = None if onnx_program is None else onnx_program.exported_program
            recording.require_calls(captured_program(subject), final_program)

        with staged_write(path) as staging_path:
            # A refusal of the exporter would be the same without the speed-ups.
            with_fallback(lambda: write(staging_path), is_final=is_refusal, unrelated=unrelated_to)
            artifact = checked_artifact(self.name, staging_path, path, opset, names)
        note = fallback_note()
        return artifact if note is None else replace(artifact, notes=(*artifact.notes, note))


class RecordingTable:
    """A translation table for one export that records which of its functions are called."""

    def __init__(self, table: Mapping[Any, Function]) -> None:
        self._called: set[str] = set()
        self._names = {operator.name() for operator in table}
        self.table = {operator: self._recording(operator.name(), function) for operator, function in table.items()}

    def _recording(self, name: str, function: Function) -> Function:
        @wraps(function)
        def recording(*args: Any, **kwargs: Any) -> Any:
            self._called.add(name)
            return function(*args, **kwargs)

        return recording

    def require_calls(self, *programs: ExportedProgram | None) -> None:
        """Check that the exporter called each function of the table that one of ``programs`` needs.

        Raises :class:`Unsupported` if a function was not called although a program calls its operator.
        """
        import torch

        needed = {name for program in programs if program is not None for name in _live_operators(program)}
        if ignored := sorted((needed & self._names) - self._called):
            raise Unsupported(
                f"torch {torch.__version__} ignored the corrected lowering of {', '.join(ignored)}; "
                "use the target without +fixes, or install another torch"
            )


def _live_operators(program: ExportedProgram) -> Iterator[str]:
    """The names of the operators that the program calls and an output depends on."""
    import torch

    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            live: set[torch.fx.Node] = set()
            for node in reversed(module.graph.nodes):
                if node.op == "output" or any(user in live for user in node.users):
                    live.add(node)
                    if isinstance(node.target, torch._ops.OpOverload):  # noqa: SLF001 - the class has no public name
                        yield str(node.target.name())  # type: ignore[no-untyped-call]


PROVIDES = (OnnxDynamo(),)
