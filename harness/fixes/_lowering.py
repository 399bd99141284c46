"""What a fix is: a name, and how it enters each way out of torch.

A fix is found in its module's ``PROVIDES``; other packages add theirs through the entry point
group ``harness.fixes``. Most are a :class:`Lowering`, one operator of aten written in ONNX; a
:class:`Replacement` exchanges a module for one that TorchScript can take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from harness.fixes._builder import DynamoBuilder, TorchScriptBuilder
from harness.fixes._parameters import with_parameters_of
from harness.fixes._stock import stock_symbolic, stock_translation

if TYPE_CHECKING:
    from torch import nn

Kind = Literal["v", "i", "is", "f", "fs", "b", "s", "t", "none"]
Symbolics = Mapping[str, Callable[..., Any]]
Translations = Mapping[Any, Callable[..., Any]]


class Fix(Protocol):
    """One correction. ``about`` says what the stock exporter does wrong; ``issue`` is the upstream thread, if any."""

    name: str
    about: str
    issue: str | None

    def symbolics(self, opset: int) -> Symbolics:
        """For ``torch.onnx.export(dynamo=False)``: symbolic functions by qualified name, as ``aten::avg_pool2d``."""
        ...

    def translations(self) -> Translations:
        """For ``torch.onnx.export(dynamo=True)``: entries of a ``custom_translation_table``."""
        ...

    def replace(self, module: nn.Module) -> nn.Module | None:
        """The module to stand in ``module``'s place, or None to leave it; ``module`` is a copy already."""
        ...


@dataclass(frozen=True)
class Lowering:
    """An aten operator with a lowering of its own, for both exporters.

    ``arguments`` are the kinds of the operator's arguments, in
    :func:`torch.onnx.symbolic_helper.parse_args`' words. ``lower`` takes a builder and the
    arguments, with the operator's own defaults, and returns the outputs, or None where the stock
    lowering is right.
    """

    name: str
    about: str
    issue: str | None
    aten: str
    arguments: tuple[Kind, ...]
    lower: Callable[..., Any]

    def symbolics(self, opset: int) -> Symbolics:
        """See :class:`Fix`."""
        return {f"aten::{self.aten}": self._symbolic(opset)}

    def translations(self) -> Translations:
        """See :class:`Fix`."""
        import torch

        operator = getattr(torch.ops.aten, self.aten).default
        return {operator: with_parameters_of(operator, self._translation())}

    def replace(self, module: nn.Module) -> nn.Module | None:
        """See :class:`Fix`; a lowering leaves modules alone."""
        del module
        return None

    def _symbolic(self, opset: int) -> Callable[..., Any]:
        stock = stock_symbolic(f"aten::{self.aten}", opset)

        def symbolic(graph: Any, *raw: Any) -> Any:
            arguments = [_parsed(graph, kind, argument) for kind, argument in zip(self.arguments, raw, strict=False)]
            outputs = self.lower(TorchScriptBuilder(graph), *arguments)
            return stock(graph, *raw) if outputs is None and stock is not None else outputs

        return symbolic

    def _translation(self) -> Callable[..., Any]:
        def translation(*arguments: Any, **named: Any) -> Any:
            outputs = self.lower(DynamoBuilder(), *arguments, **named)
            return stock_translation(f"aten::{self.aten}")(*arguments, **named) if outputs is None else outputs

        return translation


def _parsed(graph: Any, kind: Kind, argument: Any) -> Any:
    """A symbolic function's argument as the Python value that it stands for."""
    from torch.onnx import symbolic_helper

    if argument.node().mustBeNone():
        return None

    @symbolic_helper.parse_args(kind)
    def itself(graph: Any, argument: Any) -> Any:
        del graph
        return argument

    return itself(graph, argument)


@dataclass(frozen=True)
class Replacement:
    """A module exchanged for another with the same answers, for what tracing or scripting cannot take."""

    name: str
    about: str
    issue: str | None
    exchange: Callable[[nn.Module], nn.Module | None]

    def symbolics(self, opset: int) -> Symbolics:
        """See :class:`Fix`; a replacement needs none."""
        del opset
        return {}

    def translations(self) -> Translations:
        """See :class:`Fix`; a replacement needs none."""
        return {}

    def replace(self, module: nn.Module) -> nn.Module | None:
        """See :class:`Fix`."""
        return self.exchange(module)
