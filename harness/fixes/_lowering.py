"""What a fix is, and how it enters each way out of torch.

A fix is listed in its module's ``PROVIDES``; other packages add theirs through the entry point group ``harness.fixes``.
Most are a :class:`Lowering`, one aten operator translated to ONNX. A :class:`Replacement` exchanges a module for one
that TorchScript accepts.

A fix calls the stock lowering for the cases that it translates correctly. For that, this is the only file of the fixes
that uses private names of torch and onnxscript. If torch's registry of symbolic functions is not where it is expected,
the functions of ``torch.onnx.symbolic_opset9`` and ``symbolic_opset10`` are the public fallback.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

from harness.deprecated import accept_old_names
from harness.fixes._builder import DynamoBuilder, TorchScriptBuilder

if TYPE_CHECKING:
    from torch import nn

ArgumentKind = Literal["v", "i", "is", "f", "fs", "b", "s", "t", "none"]
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
        """The module that replaces ``module``, which is a copy already; None to keep it."""
        ...


@dataclass(frozen=True)
class Lowering:
    """A lowering of one aten operator, for both ONNX exporters.

    ``arguments`` are the kinds of the operator's arguments, as :func:`torch.onnx.symbolic_helper.parse_args` names
    them. ``lower`` takes a builder and the arguments, with the operator's own defaults. It returns the outputs, or None
    if the stock lowering is correct.
    """

    name: str
    about: str
    issue: str | None
    aten: str
    arguments: tuple[ArgumentKind, ...]
    lower: Callable[..., Any]

    def symbolics(self, opset: int) -> Symbolics:
        """See :class:`Fix`."""
        return {f"aten::{self.aten}": self._symbolic(opset)}

    def translations(self) -> Translations:
        """See :class:`Fix`."""
        import torch

        operator = getattr(torch.ops.aten, self.aten).default
        return {operator: with_signature_of(operator, self._translation())}

    def replace(self, module: nn.Module) -> nn.Module | None:
        """See :class:`Fix`; a lowering replaces no modules."""
        del module
        return None

    def _symbolic(self, opset: int) -> Callable[..., Any]:
        stock = stock_symbolic(f"aten::{self.aten}", opset)

        def symbolic(graph: Any, *raw: Any) -> Any:
            arguments = [
                _parse_argument(graph, kind, argument) for kind, argument in zip(self.arguments, raw, strict=False)
            ]
            outputs = self.lower(TorchScriptBuilder(graph), *arguments)
            return stock(graph, *raw) if outputs is None and stock is not None else outputs

        return symbolic

    def _translation(self) -> Callable[..., Any]:
        def translation(*arguments: Any, **keywords: Any) -> Any:
            outputs = self.lower(DynamoBuilder(), *arguments, **keywords)
            return stock_translation(f"aten::{self.aten}")(*arguments, **keywords) if outputs is None else outputs

        return translation


def _parse_argument(graph: Any, kind: ArgumentKind, argument: Any) -> Any:
    """An argument of a symbolic function as the Python value that it represents."""
    from torch.onnx import symbolic_helper

    if argument.node().mustBeNone():
        return None

    @symbolic_helper.parse_args(kind)
    def parsed(graph: Any, argument: Any) -> Any:
        del graph
        return argument

    return parsed(graph, argument)


@dataclass(frozen=True)
class Replacement:
    """A module exchanged for one with the same outputs, for a module that cannot be traced or scripted."""

    name: str
    about: str
    issue: str | None
    exchange: Callable[[nn.Module], nn.Module | None]

    def symbolics(self, opset: int) -> Symbolics:
        """See :class:`Fix`; a replacement has none."""
        del opset
        return {}

    def translations(self) -> Translations:
        """See :class:`Fix`; a replacement has none."""
        return {}

    def replace(self, module: nn.Module) -> nn.Module | None:
        """See :class:`Fix`."""
        return self.exchange(module)


def with_signature_of(operator: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with the signature of ``operator``'s schema; it still accepts the same arguments.

    Before torch 2.11 the dynamo exporter compares a function's parameters with the operator's, by name, and silently
    ignores a function with other parameters, such as ``*arguments``.
    """
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
    # The exporter reads annotations separately, and warns about each parameter without one.
    described.__annotations__ = {parameter.name: Any for parameter in parameters}
    return function


@cache
def stock_translation(name: str) -> Callable[..., Any]:
    """The stock lowering of ``name`` in ``torch.onnx.export(dynamo=True)``; raises ``LookupError`` if it has none."""
    from onnxscript.function_libs.torch_lib import (
        ops,  # noqa: F401  # importing it fills the registry
        registration,
    )

    overloads = registration.default_registry[name].overloads if name in registration.default_registry else ()
    if not overloads:
        raise LookupError(f"the dynamo exporter has no stock lowering for {name}")
    function: Callable[..., Any] = overloads[0]
    return function


def stock_symbolic(name: str, opset: int) -> Callable[..., Any] | None:
    """The lowering of ``name`` at ``opset`` in ``torch.onnx.export(dynamo=False)``; None if it has none."""
    registry = _torch_registry()
    if registry is not None:
        group = registry.get_function_group(name)
        symbolic: Callable[..., Any] | None = None if group is None else group.get(opset)
        return symbolic
    from torch.onnx import symbolic_opset9, symbolic_opset10

    _, _, function = name.partition("::")
    return getattr(symbolic_opset10, function, None) or getattr(symbolic_opset9, function, None)


@contextmanager
def removed_empty_groups() -> Iterator[None]:
    """At the end of the block, remove the empty groups that it added to torch's registry of symbolic functions.

    Unregistering the last symbolic function of an operator leaves an empty group behind. The next stock export would
    fail on that instead of saying that the operator is not supported. Without the private registry nothing is done.
    """
    groups: MutableMapping[str, Any] = getattr(_torch_registry(), "_registry", {})
    before = set(groups)
    try:
        yield
    finally:
        # Torch fills its registry when it is first used, so a new group is not always an empty one.
        for name in set(groups) - before:
            if not groups[name]._functions:  # noqa: SLF001
                del groups[name]


def _torch_registry() -> Any:
    """Torch's private registry of symbolic functions; None if it is not where it is expected."""
    for module in ("torch.onnx._internal.torchscript_exporter.registration", "torch.onnx._internal.registration"):
        try:
            return import_module(module).registry
        except (ImportError, AttributeError):
            continue
    return None


accept_old_names(__name__)
