"""Keeps what the dynamo exports of one subject have in common, whatever their opset and with fixes or without.

``torch.onnx.export`` captures the module with ``torch.export``, prepares the captured program for a registry of ONNX
functions, and translates what came of it. Of a small export the first two are four fifths, and only the last knows
the opset. While :func:`sharing` is open the first two are done once a subject:

- The captured program depends on the subject alone. It is all that is read afterwards: the copies of module and
  inputs that it was captured from serve the other exports as well.
- Preparing decomposes each operator that the registry has no function for. Where it has one for every operator that
  was captured, nothing is decomposed, and any other registry of which that is true leads to the same program.

Nothing after that writes to either program, so that they are handed on as they are, and kept for as long as the
subject lives.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from harness.exporters._levers import Lever, present, pulled, reasons

if TYPE_CHECKING:
    import torch
    from torch import nn

    from harness.model.build import Subject

    Copies = tuple[nn.Module, tuple[torch.Tensor, ...]]

_CAPTURE = ("torch.onnx._internal.exporter._capture_strategies", "TorchExportNonStrictStrategy._capture")
_PREPARE = ("torch.onnx._internal.exporter._core", "_prepare_exported_program_for_export")


@dataclass
class _Shared:
    """The programs of one subject; the prepared ones by the operators that their registries had functions for."""

    copies: Copies | None = None
    captured: Any = None
    prepared: list[tuple[frozenset[Any], Any]] = field(default_factory=list)

    def of(self, subject: Subject) -> Copies:
        """Copies of the subject's module and inputs: those that were captured, else fresh ones."""
        if self.copies is None or self.captured is None:
            self.copies = subject.fresh()
        return self.copies

    def capture(self, original: Any) -> Any:
        """``original``, called once; what it raises is not kept."""

        def capture(strategy: Any, *model: Any) -> Any:
            if self.captured is None:
                self.captured = original(strategy, *model)
            return self.captured

        return capture

    def prepare(self, original: Any) -> Any:
        """``original``, called once for all registries that make no difference."""

        def prepare(program: Any, *, registry: Any) -> Any:
            if program is not self.captured:
                return original(program, registry=registry)
            registered = frozenset(metas[0].fx_target for metas in registry.functions.values() if metas)
            for others, prepared in self.prepared:
                if others == registered or _operators(program) <= others & registered:
                    return prepared
            prepared = original(program, registry=registry)
            self.prepared.append((registered, prepared))
            return prepared

        return prepare

    @property
    def levers(self) -> tuple[Lever, ...]:
        """Where the two stand in torch."""
        return (
            Lever("capture", *_CAPTURE, self.capture, takes=("self", "model", "args", "kwargs", "dynamic_shapes")),
            Lever("prepare", *_PREPARE, self.prepare, takes=("exported_program", "registry"), needs="capture"),
        )


_OF: WeakKeyDictionary[Subject, _Shared] = WeakKeyDictionary()


def levers() -> dict[str, bool]:
    """Which of the levers are on."""
    return present(_Shared().levers)


def why_off() -> dict[str, str | None]:
    """Why each lever is off, by its name; None where it is on."""
    return reasons(_Shared().levers)


def captured(subject: Subject) -> Any:
    """What the exports of ``subject`` were captured as; None where nothing is shared."""
    shared = _OF.get(subject)
    return None if shared is None else shared.captured


@contextmanager
def sharing(subject: Subject) -> Iterator[Copies]:
    """While open, exports of ``subject`` share its programs; on leaving, torch is as it was.

    Gives the copies of its module and inputs that are to be exported.
    """
    shared = _OF.setdefault(subject, _Shared())
    with pulled(shared.levers) as shares:
        yield shared.of(subject) if shares else subject.fresh()


def _operators(program: Any) -> frozenset[Any]:
    """What the captured program calls; taking an element of a tuple is no operator, and decomposes into nothing."""
    import torch

    graphs = [module.graph for module in program.graph_module.modules() if isinstance(module, torch.fx.GraphModule)]
    called = {node.target for graph in graphs for node in graph.nodes if node.op == "call_function"}
    return frozenset(called - {operator.getitem})
