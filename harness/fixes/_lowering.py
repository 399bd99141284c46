"""The exporters' own lowerings, which a fix hands the plain case on to.

This is the one file of the fixes that touches private names, of torch and of onnxscript. Where
torch's registry of symbolic functions is not in its place, the functions of
``torch.onnx.symbolic_opset9`` and ``symbolic_opset10`` are the public fall-back.

The parameters of an operator of PyTorch, given to the function that translates it to ONNX.

Before torch 2.11 the dynamo exporter compares a function's parameters with the operator's, by name, and passes over a
function that does not have them: one that takes ``*arguments`` is never called, without a word.

What a fix is: a name, and how it enters each way out of torch.

A fix is found in its module's ``PROVIDES``; other packages add theirs through the entry point
group ``harness.fixes``. Most are a :class:`Lowering`, one operator of aten written in ONNX; a
:class:`Replacement` exchanges a module for one that TorchScript can take.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

from harness.fixes._builder import DynamoBuilder, TorchScriptBuilder

if TYPE_CHECKING:
    from torch import nn


_REGISTRIES = ("torch.onnx._internal.torchscript_exporter.registration", "torch.onnx._internal.registration")


def stock_symbolic(name: str, opset: int) -> Callable[..., Any] | None:
    """What ``torch.onnx.export(dynamo=False)`` would call for ``name`` at ``opset``; None where it has nothing."""
    for module in _REGISTRIES:
        try:
            registry = import_module(module).registry
        except ImportError:
            continue
        group = registry.get_function_group(name)
        symbolic: Callable[..., Any] | None = None if group is None else group.get(opset)
        return symbolic
    from torch.onnx import symbolic_opset9, symbolic_opset10

    _, _, function = name.partition("::")
    return getattr(symbolic_opset10, function, None) or getattr(symbolic_opset9, function, None)


@contextmanager
def no_empty_groups() -> Iterator[None]:
    """On leaving, forget the operators that torch's registry had never heard of on entering.

    Unregistering the last symbolic of such an operator leaves an empty group behind, on which the next stock export
    stumbles instead of saying that the operator is not supported. Without the private registry torch stays as it is.
    """
    groups = _groups()
    before = set(groups)
    try:
        yield
    finally:
        # Torch fills its registry when it is first used, so that a new group is not yet an empty one.
        for name in set(groups) - before:
            if not groups[name]._functions:  # noqa: SLF001
                del groups[name]


def _groups() -> MutableMapping[str, Any]:
    for module in _REGISTRIES:
        try:
            groups: MutableMapping[str, Any] = import_module(module).registry._registry  # noqa: SLF001
        except (ImportError, AttributeError):
            continue
        return groups
    return {}


@cache
def stock_translation(name: str) -> Callable[..., Any]:
    """What ``torch.onnx.export(dynamo=True)`` would call for ``name``; raises ``LookupError`` where it has nothing."""
    from onnxscript.function_libs.torch_lib import (
        ops,  # noqa: F401  # importing it fills the registry
        registration,
    )

    overloads = registration.default_registry[name].overloads if name in registration.default_registry else ()
    if not overloads:
        raise LookupError(f"the dynamo exporter has no lowering for {name} to hand on to")
    function: Callable[..., Any] = overloads[0]
    return function


def with_parameters_of(operator: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, whose signature is now that of ``operator``'s schema. It takes whatever it took before."""
    parameters = [
        inspect.Parameter(
            argument.name,
            inspect.Parameter.KEYWORD_ONLY if argument.kwarg_only else inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=argument.default_value if argument.has_default_value() else inspect.Parameter.empty,
            annotation=Any,
        )
        for argument in operator._schema.arguments  # noqa: SLF001 - torch has no public name for it
    ]
    described: Any = function
    described.__signature__ = inspect.Signature(parameters)
    # Without an annotation, which is asked for separately, the exporter warns of each parameter.
    described.__annotations__ = {parameter.name: Any for parameter in parameters}
    return function


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
