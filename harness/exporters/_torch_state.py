"""What torch keeps of an export and uses in the next one of the same process, and how it is undone.

Without this, the second export of a recurrent layer fails where its axes are open, or makes another file:

- Each operator remembers which implementation to call. While torch captures, the implementations of ``aten.lstm`` and
  ``aten.gru`` are replaced by a loop. A later step of the export makes the operators remember the original ones, which
  take each time step by itself. The next capture calls these: a replacement does not reach an operator that remembers.
- Preparing a program removes rules for fake tensors that were there before.

:func:`no_graphs_printed` is for exports in the user's own process, whose output belongs to the user.

All names are private to torch. Where a release does not have them, an export that fails is still tried again in a
fresh process by :mod:`harness.engine`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any


@contextmanager
def as_in_a_fresh_process() -> Iterator[None]:
    """Let the export in the block find torch as the first export of a process finds it, and leave it so."""
    _forget_implementations()
    rules = _attribute("torch._subclasses.fake_impls", "op_implementations_dict", {})
    rules_before = dict(rules)
    try:
        yield
    finally:
        for operator, rule in rules_before.items():
            rules.setdefault(operator, rule)


@contextmanager
def no_graphs_printed() -> Iterator[None]:
    """Keep the exporter on TorchScript from printing the whole graph of a model that it refuses."""
    import torch

    # torch's switch for this log is turned on again by each export.
    original = _attribute("torch._C", "_jit_onnx_log", None)
    if original is None:
        yield
        return
    torch._C._jit_onnx_log = lambda *_: None  # noqa: SLF001 - see the docstring of the module
    try:
        yield
    finally:
        torch._C._jit_onnx_log = original  # noqa: SLF001


def _forget_implementations() -> None:
    """Empty what the operators remember. It is worked out again when it is needed."""
    operators = _attribute("torch._ops", "get_cached_ops", tuple)
    for operator in operators():
        operator._dispatch_cache.clear()  # noqa: SLF001 - see the docstring of the module


def _attribute(module: str, name: str, default: Any) -> Any:
    try:
        return getattr(import_module(module), name, default)
    except ImportError:
        return default
