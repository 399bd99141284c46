"""Corrected lowerings, one a file, for what a stock exporter translates wrongly or refuses.

A target with ``+fixes`` uses them. Each way out of torch takes them in one line::

    torch.onnx.export(model, args, "m.onnx", dynamo=True, custom_translation_table=translation_table())

    with torchscript_symbolics(17):
        torch.onnx.export(corrected(model), args, "m.onnx", dynamo=False, opset_version=17)

    torch.jit.script(corrected(model))

None of them changes torch beyond the call. ``without`` leaves fixes out by name, if their cost is too high:
``max_pool2d`` keeps NaN and -inf, but takes a few times as long as the stock operator. :func:`fixes` lists them all,
with what each is for.
"""

from __future__ import annotations

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
"""The lowest opset of the corrected lowerings."""


def fixes(without: Collection[str] = ()) -> dict[str, Fix]:
    """Every fix by its name, except those in ``without``.

    Raises :class:`harness.errors.UsageError` if a name in ``without`` is not a fix.
    """
    by_name: dict[str, Fix] = registry.plugins("fixes")
    if unknown := sorted(set(without) - by_name.keys()):
        raise UsageError(f"no fix named {', '.join(unknown)}; the fixes are {', '.join(by_name)}")
    return {name: fix for name, fix in by_name.items() if name not in without}


def translation_table(without: Collection[str] = ()) -> dict[Any, Callable[..., Any]]:
    """The ``custom_translation_table`` for ``torch.onnx.export(dynamo=True)``: a new dict at each call."""
    return dict(_translations(tuple(fixes(without).values())))


@cache  # every export needs it
def _translations(fixes: tuple[Fix, ...]) -> dict[Any, Callable[..., Any]]:
    return _merged((fix.name, fix.translations()) for fix in fixes)


@contextmanager
def torchscript_symbolics(opset: int, without: Collection[str] = ()) -> Iterator[None]:
    """Within the block, ``torch.onnx.export(dynamo=False, opset_version=opset)`` uses the corrected lowerings.

    Raises :class:`harness.errors.UsageError` below opset 13, the lowest opset of their operators, and
    :class:`harness.errors.Unsupported` if torch ignores the lowerings that are registered with it.
    """
    import torch
    from torch import onnx

    from harness.fixes._lowering import removed_empty_groups, stock_symbolic

    if opset < LOWEST_OPSET:
        raise UsageError(f"the corrected lowerings do not exist at opset {opset}; use opset {LOWEST_OPSET} or above")
    symbolics = _merged((fix.name, fix.symbolics(opset)) for fix in fixes(without).values())
    with removed_empty_groups(), ExitStack() as stack:
        for name, symbolic in symbolics.items():
            onnx.register_custom_op_symbolic(name, symbolic, opset)  # type: ignore[attr-defined]
            stack.callback(onnx.unregister_custom_op_symbolic, name, opset)  # type: ignore[attr-defined]
            if stock_symbolic(name, opset) is not symbolic:
                raise Unsupported(
                    f"torch {torch.__version__} does not use the corrected lowering of {name} at opset {opset}; "
                    "run without +fixes, or install another torch version"
                )
        yield


def corrected(module: nn.Module, without: Collection[str] = ()) -> nn.Module:
    """A copy of ``module`` that can be traced and scripted; weights, mode and outputs are the same.

    Submodules of exactly the affected classes are replaced, at any depth. ``module`` itself is not changed.
    """
    from harness.model.tensors import copy_module

    module = copy_module(module)
    for fix in fixes(without).values():
        module = _with_replacements(module, fix)
    return module


def _with_replacements(module: nn.Module, fix: Fix) -> nn.Module:
    """``module`` after ``fix`` replaced its submodules; one submodule in two places stays one object."""
    replacements: dict[int, nn.Module] = {}
    for path, submodule in list(module.named_modules(remove_duplicate=False)):
        replacement = replacements.get(id(submodule)) or fix.replace(submodule)
        if replacement is None:
            continue
        replacements[id(submodule)] = replacement.train(submodule.training)
        if not path:
            return replacement
        module.set_submodule(path, replacement)
    return module


def _merged(tables: Iterable[tuple[str, Any]]) -> dict[Any, Callable[..., Any]]:
    """The tables of all fixes as one. Raises :class:`HarnessError` if two fixes correct one operator."""
    entries = [(operator, name, function) for name, table in tables for operator, function in table.items()]
    counts = Counter(operator for operator, _, _ in entries)
    if duplicates := {operator for operator, count in counts.items() if count > 1}:
        names = sorted(name for operator, name, _ in entries if operator in duplicates)
        raise HarnessError(f"the fixes {', '.join(names)} correct the same operator; leave all but one out")
    return {operator: function for operator, _, function in entries}
