"""Shares the programs of one subject between its dynamo exports, for all opsets, with and without fixes.

``torch.onnx.export`` captures the module with ``torch.export``, prepares the captured program for a registry of ONNX
functions, and translates the result. In a small export the first two steps take four fifths of the time, and only the
last depends on the opset. While :func:`shared_programs` is open, the first two steps run once per subject:

- The captured program depends on the subject alone. The later steps read only this program, so the copies of module
  and inputs that it was captured from serve the other exports as well.
- A program with a size or number that depends on the values of its inputs, as in ``x[x > 0]``, is not shared: torch
  can prepare it only once.
- Preparing decomposes each operator that the registry has no function for. If the registry has one for every captured
  operator, nothing is decomposed, and any other registry with this property leads to the same program.

No later step writes to either program. So they are passed on without a copy, and kept for as long as the subject lives.
The warnings of both steps are shown for each export.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from harness.exporters import _speed_ups
from harness.exporters._speed_ups import SpeedUp

if TYPE_CHECKING:
    import torch
    from torch import nn

    from harness.model.build import Subject

    ModuleAndInputs = tuple[nn.Module, tuple[torch.Tensor, ...]]


@contextmanager
def shared_programs(subject: Subject) -> Iterator[ModuleAndInputs]:
    """While open, exports of ``subject`` share its programs; afterwards torch is as it was.

    Yields the copies of its module and inputs to export.
    """
    programs = _PROGRAMS.setdefault(subject, _Programs())
    with _speed_ups.applied(programs.speed_ups) as shared:
        yield programs.copies_of(subject) if shared else subject.fresh(aliased=True)


def captured_program(subject: Subject) -> Any:
    """The program that the last export of ``subject`` started from; None if that is not known."""
    programs = _PROGRAMS.get(subject)
    return None if programs is None else programs.captured


def disabled_reasons() -> dict[str, str | None]:
    """Why each speed-up of this module is off, by name; None if it is on."""
    return _speed_ups.disabled_reasons(_Programs().speed_ups)


def enabled() -> dict[str, bool]:
    """Whether each speed-up of this module is on, by name."""
    return _speed_ups.enabled(_Programs().speed_ups)


_CAPTURE = ("torch.onnx._internal.exporter._capture_strategies", "TorchExportNonStrictStrategy._capture")
_PREPARE = ("torch.onnx._internal.exporter._core", "_prepare_exported_program_for_export")


@dataclass(frozen=True)
class _Prepared:
    """A prepared program, and the warnings of its preparation."""

    program: Any
    warned: Sequence[warnings.WarningMessage]


@dataclass
class _Programs:
    """The programs of one subject. ``prepared`` has the operators of each registry, and the program prepared for it.

    ``shared`` is True once ``captured`` was found to serve all exports. ``warned`` are the warnings of the capture.
    """

    copies: ModuleAndInputs | None = None
    captured: Any = None
    shared: bool = False
    warned: Sequence[warnings.WarningMessage] = ()
    prepared: list[tuple[frozenset[Any], _Prepared]] = field(default_factory=list)

    def copies_of(self, subject: Subject) -> ModuleAndInputs:
        """Copies of the subject's module and inputs: those of the captured program, or fresh ones if there is none."""
        if self.copies is None or not self.shared:
            self.copies = subject.fresh(aliased=True)
        return self.copies

    def capture_once(self, original: Any) -> Any:
        """``original``, called once; after an exception, or for a program that is not shared, it is called again."""

        def capture(strategy: Any, *model: Any) -> Any:
            if not self.shared:
                self.captured = None
                self.captured, self.warned = _with_warnings(lambda: original(strategy, *model))
                self.shared = not _depends_on_values(self.captured)
            else:
                _show(self.warned)
            return self.captured

        return capture

    def prepare_once(self, original: Any) -> Any:
        """``original``, called once for all registries that lead to the same program."""

        def prepare(program: Any, *, registry: Any) -> Any:
            if program is not self.captured or not self.shared:
                return original(program, registry=registry)
            registered = frozenset(metas[0].fx_target for metas in registry.functions.values() if metas)
            for earlier, prepared in self.prepared:
                if earlier == registered or _operators(program) <= earlier & registered:
                    _show(prepared.warned)
                    return prepared.program
            prepared = _Prepared(*_with_warnings(lambda: original(program, registry=registry)))
            self.prepared.append((registered, prepared))
            return prepared.program

        return prepare

    @property
    def speed_ups(self) -> tuple[SpeedUp, ...]:
        """The patches of torch's two functions."""
        capture_parameters = ("self", "model", "args", "kwargs", "dynamic_shapes")
        prepare_parameters = ("exported_program", "registry")
        return (
            SpeedUp("capture", *_CAPTURE, self.capture_once, parameters=capture_parameters),
            SpeedUp("prepare", *_PREPARE, self.prepare_once, parameters=prepare_parameters, needs="capture"),
        )


_PROGRAMS: WeakKeyDictionary[Subject, _Programs] = WeakKeyDictionary()


def _with_warnings(compute: Callable[[], Any]) -> tuple[Any, Sequence[warnings.WarningMessage]]:
    """The value of ``compute()`` and its warnings, which are shown as well, also where it raises."""
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            return compute(), caught
    finally:
        _show(caught)


def _show(caught: Sequence[warnings.WarningMessage]) -> None:
    for each in caught:
        warnings.showwarning(each.message, each.category, each.filename, each.lineno, each.file, each.line)


def _depends_on_values(program: Any) -> bool:
    """Whether the captured program has a size or a number that is known only once the values of the inputs are."""
    import torch
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
    from torch.utils import _pytree as pytree

    measured = (torch.Tensor, torch.SymInt, torch.SymFloat, torch.SymBool)
    values = (value for node in _nodes(program) for value in pytree.tree_leaves(node.meta.get("val")))
    return any(free_unbacked_symbols(value) for value in values if isinstance(value, measured))


def _operators(program: Any) -> frozenset[Any]:
    """The operators that the captured program calls, without ``getitem`` of a tuple, which decomposes into nothing."""
    called = {node.target for node in _nodes(program) if node.op == "call_function"}
    return frozenset(called - {operator.getitem})


def _nodes(program: Any) -> Iterator[Any]:
    """The nodes of the captured program and of the programs in it."""
    import torch

    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            yield from module.graph.nodes
