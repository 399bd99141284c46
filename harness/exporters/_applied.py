"""Whether the exporter used the corrected lowerings that it was given, so that ``+fixes`` is never a stock export."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

from harness.errors import Unsupported

if TYPE_CHECKING:
    from torch.export import ExportedProgram

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
