"""Whether the exporter used the corrected lowerings that it was given, so that ``+fixes`` is never a stock export.

ONNX through torch.export: ``torch.onnx.export(dynamo=True)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import Unsupported
from harness.exporters import Artifact, Format
from harness.exporters._dynamo_cache import quick
from harness.exporters._dynamo_sharing import captured, sharing
from harness.exporters._files import dynamic_shapes, is_refusal, refusals_named
from harness.exporters._levers import fall_back, news
from harness.exporters._onnx import dynamo_opsets, written

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from harness.model.build import Subject


Function = Callable[..., Any]


class Watched:
    """A translation table for one export, whose functions are remembered when they are called."""

    def __init__(self, table: Mapping[Any, Function]) -> None:
        self._called: set[str] = set()
        self._names = {operator.name() for operator in table}
        self.table = {operator: self._watched(operator.name(), function) for operator, function in table.items()}

    def _watched(self, name: str, function: Function) -> Function:
        @wraps(function)
        def watched(*arguments: Any, **named: Any) -> Any:
            self._called.add(name)
            return function(*arguments, **named)

        return watched

    def confirm(self, *programs: ExportedProgram | None) -> None:
        """See that each function of the table was called whose operator one of ``programs`` calls.

        Raises :class:`Unsupported` where one was not.
        """
        import torch

        called = {name for program in programs if program is not None for name in _live_operators(program)}
        if passed_over := sorted((called & self._names) - self._called):
            raise Unsupported(
                f"torch {torch.__version__} does not use the corrected lowering of {', '.join(passed_over)} that it is "
                "given; verify without +fixes, or install another torch"
            )


def _live_operators(program: ExportedProgram) -> Iterator[str]:
    """The names of the operators that a program calls and that an output depends on."""
    import torch

    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            live: set[torch.fx.Node] = set()
            for node in reversed(module.graph.nodes):
                if node.op == "output" or any(user in live for user in node.users):
                    live.add(node)
                    if isinstance(node.target, torch._ops.OpOverload):  # noqa: SLF001 - the class has no public name
                        yield str(node.target.name())  # type: ignore[no-untyped-call]


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
