"""What torch keeps of an export and uses in the next one of the same process, and how it is undone.

Without this, the second export of a recurrent layer fails where its axes are open, or makes another file:

- Each operator remembers which implementation to call. While torch captures, the implementations of ``aten.lstm`` and
  ``aten.gru`` are replaced by a loop. A later step of the export makes the operators remember the original ones, which
  take each time step by itself. The next capture calls these: a replacement does not reach an operator that remembers.
- Preparing a program removes rules for fake tensors that were there before.
- TorchScript keeps a class, a NamedTuple or an Enum under its qualified name. Another one of the same name, as a second
  model in a notebook has, is refused or taken for the first (:func:`own_class_names`).

:func:`no_graphs_printed` is for exports in the user's own process, whose output belongs to the user.

All names are private to torch. Where a release does not have them, an export that fails is still tried again in a
fresh process by :mod:`harness.engine`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary


@contextmanager
def as_in_a_fresh_process() -> Iterator[None]:
    """Let the export in the block find torch as the first export of a process finds it, and leave it so.

    A model that is refused for what it does with values is not printed: its graph can have thousands of lines.
    """
    _forget_implementations()
    rules = _attribute("torch._subclasses.fake_impls", "op_implementations_dict", {})
    rules_before = dict(rules)
    capturing = import_module("torch.export._trace")
    vars(capturing)["print"] = lambda *_, **__: None  # torch prints nothing else there
    try:
        yield
    finally:
        vars(capturing).pop("print", None)
        for operator, rule in rules_before.items():
            rules.setdefault(operator, rule)


@contextmanager
def no_graphs_printed() -> Iterator[None]:
    """Keep the exporter on TorchScript from printing the whole graph of a model that it refuses.

    Nor does pytest, which listens to every logger, get the dozens of empty records that torch logs for its own tools.
    """
    import torch

    for_tools = logging.getLogger("torch.__trace")
    # torch's switch for this log is turned on again by each export.
    original = _attribute("torch._C", "_jit_onnx_log", None)
    others = [each for each in for_tools.handlers if not type(each).__module__.startswith("torch.")]
    if original is not None:
        torch._C._jit_onnx_log = lambda *_: None  # noqa: SLF001 - see the docstring of the module
    for each in others:
        for_tools.removeHandler(each)
    try:
        yield
    finally:
        for each in others:
            for_tools.addHandler(each)
        if original is not None:
            torch._C._jit_onnx_log = original  # noqa: SLF001


_FIRST_NUMBER = 10**6
"""Larger than the numbers that torch gives to classes of one name in a process."""
_NUMBERS: WeakKeyDictionary[type, int] = WeakKeyDictionary()
_COUNTER = count(_FIRST_NUMBER)
_USERS_OF_NAMES = ("torch._jit_internal", "torch.jit._script", "torch.jit._recursive", "torch.jit.annotations")


@contextmanager
def own_class_names() -> Iterator[None]:
    """Let TorchScript know each class of the user's code that is no module by a name of its own, as it does modules."""
    import torch

    original = _attribute("torch._jit_internal", "_qualified_name", None)
    modules = [import_module(name) for name in _USERS_OF_NAMES if _attribute(name, "_qualified_name", None) is original]
    if original is None or not modules:
        yield
        return

    def qualified_name(obj: Any, *arguments: Any, **named: Any) -> Any:
        name = original(obj, *arguments, **named)
        if not isinstance(obj, type) or issubclass(obj, torch.nn.Module) or not name.startswith("__torch__."):
            return name
        if name.startswith("__torch__.torch.") or _MANGLED in name:
            return name
        number = _NUMBERS.setdefault(obj, next(_COUNTER))
        scope, _, last = name.rpartition(".")
        return f"{scope}.{_MANGLED}{number}.{last}"

    for module in modules:
        module._qualified_name = qualified_name  # type: ignore[attr-defined]  # noqa: SLF001 - see the docstring of the module
    try:
        yield
    finally:
        for module in modules:
            module._qualified_name = original  # type: ignore[attr-defined]  # noqa: SLF001


_MANGLED = "___torch_mangle_"
"""As torch names the second class of one name; :mod:`harness.exporters.torchscript` and messages leave it out."""


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
