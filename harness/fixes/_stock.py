"""The exporters' own lowerings, which a fix hands the plain case on to.

This is the one file of the fixes that touches private names, of torch and of onnxscript. Where
torch's registry of symbolic functions is not in its place, the functions of
``torch.onnx.symbolic_opset9`` and ``symbolic_opset10`` are the public fall-back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

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
