"""Corrected lowerings, one a file, for what a stock exporter gets wrong or refuses.

They are what ``+fixes`` switches on, and each way out of torch takes them in one line::

    torch.onnx.export(model, args, "m.onnx", dynamo=True, custom_translation_table=translation_table())

    with torchscript_symbolics(17):
        torch.onnx.export(corrected(model), args, "m.onnx", dynamo=False, opset_version=17)

    torch.jit.script(corrected(model))

None of them changes torch for longer than the call that they are given to. ``without`` leaves
fixes out by name, where their price is not worth paying (``max_pool2d`` keeps NaN and -inf, for
a few times the cost of the stock operator). :func:`fixes` lists them all, with what each is for.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from harness import registry
from harness.errors import HarnessError, Unsupported, UsageError

if TYPE_CHECKING:
    from torch import nn

    from harness.fixes._lowering import Fix

__all__ = ["LOWEST_OPSET", "corrected", "fixes", "torchscript_symbolics", "translation_table"]

LOWEST_OPSET = 13
"""The lowest opset that the corrected lowerings can be written in."""


def fixes(without: Collection[str] = ()) -> dict[str, Fix]:
    """Every fix by its name, less those in ``without``.

    Raises :class:`harness.errors.UsageError` where ``without`` names no fix.
    """
    found: dict[str, Fix] = registry.plugins("fixes")
    if unknown := sorted(set(without) - found.keys()):
        raise UsageError(f"there is no fix called {', '.join(unknown)}; there are {', '.join(found)}")
    return {name: fix for name, fix in found.items() if name not in without}


def translation_table(without: Collection[str] = ()) -> dict[Any, Callable[..., Any]]:
    """The ``custom_translation_table`` for ``torch.onnx.export(dynamo=True)``: a new dict at each call."""
    return dict(_translations(tuple(fixes(without).values())))


@cache  # asked at each export
def _translations(fixes: tuple[Fix, ...]) -> dict[Any, Callable[..., Any]]:
    return _joined((fix.name, fix.translations()) for fix in fixes)


@contextmanager
def torchscript_symbolics(opset: int, without: Collection[str] = ()) -> Iterator[None]:
    """While open, ``torch.onnx.export(dynamo=False, opset_version=opset)`` uses the corrected lowerings.

    Raises :class:`harness.errors.UsageError` below opset 13, whose operators they are written in, and
    :class:`harness.errors.Unsupported` where torch does not look for lowerings where it is given them.
    """
    import torch
    from torch import onnx

    from harness.fixes._lowering import no_empty_groups, stock_symbolic

    if opset < LOWEST_OPSET:
        raise UsageError(f"the corrected lowerings cannot be written at opset {opset}; {LOWEST_OPSET} or above can")
    symbolics = _joined((fix.name, fix.symbolics(opset)) for fix in fixes(without).values())
    with no_empty_groups(), ExitStack() as stack:
        for name, symbolic in symbolics.items():
            onnx.register_custom_op_symbolic(name, symbolic, opset)  # type: ignore[attr-defined]
            stack.callback(onnx.unregister_custom_op_symbolic, name, opset)  # type: ignore[attr-defined]
            if stock_symbolic(name, opset) is not symbolic:
                raise Unsupported(
                    f"torch {torch.__version__} is not seen to use the corrected lowering of {name} at opset {opset}; "
                    "verify without +fixes, or install another torch"
                )
        yield


def corrected(module: nn.Module, without: Collection[str] = ()) -> nn.Module:
    """A copy of ``module`` that can be traced and scripted; weights, mode and answers are the same.

    Submodules of exactly the classes concerned are exchanged, at any depth; ``module`` itself is left as it is.
    """
    module = copy.deepcopy(module)
    for fix in fixes(without).values():
        module = _exchanged(module, fix)
    return module


def _exchanged(module: nn.Module, fix: Fix) -> nn.Module:
    """``module`` with each submodule that ``fix`` replaces replaced; one object in two places stays one object."""
    exchanged: dict[int, nn.Module] = {}
    for path, inner in list(module.named_modules(remove_duplicate=False)):
        replacement = exchanged.get(id(inner)) or fix.replace(inner)
        if replacement is None:
            continue
        exchanged[id(inner)] = replacement.train(inner.training)
        if not path:
            return replacement
        module.set_submodule(path, replacement)
    return module


def _joined(tables: Iterable[tuple[str, Any]]) -> dict[Any, Callable[..., Any]]:
    """The tables in one. Raises :class:`HarnessError` where two fixes claim one operator."""
    entries = [(operator, name, function) for name, table in tables for operator, function in table.items()]
    claims = Counter(operator for operator, _, _ in entries)
    if twice := {operator for operator, count in claims.items() if count > 1}:
        names = sorted(name for operator, name, _ in entries if operator in twice)
        raise HarnessError(f"the fixes {', '.join(names)} correct the same operator; leave all but one out")
    return {operator: function for operator, _, function in entries}
