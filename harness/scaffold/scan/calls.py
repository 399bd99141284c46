"""Run a model once, and observe the calls of its layers and, outside of them, of torch's functions.

A layer is the outermost module of ``torch.nn`` on the way, or a module of another class without modules inside.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils import _pytree as pytree

from harness.scaffold.scan.spelling import is_torch_layer

TORCH_FOLDER = Path(torch.__file__).parent
Call: TypeAlias = Callable[[], Any]
OnLayer: TypeAlias = Callable[[nn.Module, str, tuple[Any, ...], Mapping[str, Any], Call], Any]


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call of one of torch's functions outside of the layers: its name, its place, and the module that made it."""

    name: str
    place: str
    path: str


def observed_run(
    model: nn.Module, inputs: Sequence[Any], named: Mapping[str, Any], on_layer: OnLayer
) -> list[FunctionCall]:
    """Run ``model`` once without gradients, and return the calls of functions that no layer made.

    ``on_layer`` is called in place of every layer, with the layer, its path, its arguments, and the call to make; it
    returns what the call returned.
    """
    paths = {id(module): path for path, module in model.named_modules(remove_duplicate=True)}
    functions = _Functions(paths)
    with functions, _observed_modules(paths, functions, on_layer), torch.no_grad():
        model(*inputs, **named)
    return functions.calls


def is_layer(module: nn.Module) -> bool:
    """True for what gets a case of its own: a layer of ``torch.nn``, or another module without modules inside."""
    return is_torch_layer(module) or not any(module.children())


class _Functions(TorchFunctionMode):
    """Notes the calls of torch's functions that return tensors, with the line of the model's code that made them."""

    def __init__(self, paths: Mapping[int, str]) -> None:
        super().__init__()
        self.calls: list[FunctionCall] = []
        self.within: list[nn.Module] = []
        self._paths = paths

    def __torch_function__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        returned = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(returned)):
            path = self._paths.get(id(self.within[-1]), "") if self.within else ""
            self.calls.append(FunctionCall(_name(func), _place(), path))
        return returned


@contextmanager
def _observed_modules(paths: Mapping[int, str], functions: _Functions, on_layer: OnLayer) -> Iterator[None]:
    """Call ``on_layer`` in place of the layers of the model, and turn ``functions`` off inside them.

    ``torch.fx`` replaces ``nn.Module.__call__`` in this way too. Hooks would change which kernels torch takes.
    """
    original = nn.Module.__call__
    inside = False

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        nonlocal inside
        if inside or id(module) not in paths:
            return original(module, *args, **kwargs)
        if not is_layer(module):
            functions.within.append(module)
            try:
                return original(module, *args, **kwargs)
            finally:
                functions.within.pop()
        inside = True
        functions.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        try:
            return on_layer(module, paths[id(module)], args, kwargs, lambda: original(module, *args, **kwargs))
        finally:
            functions.__enter__()  # type: ignore[no-untyped-call]
            inside = False

    nn.Module.__call__ = call  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__call__ = original  # type: ignore[method-assign]


def _name(function: Any) -> str:
    """The name of a function of torch, such as ``functional.softmax`` or ``Tensor.add``."""
    name: str = resolve_name(function) or getattr(function, "__name__", str(function))
    return name.removeprefix("torch.").removeprefix("nn.").removesuffix(".__get__")


def _place() -> str:
    """The file and line of the innermost code that is not torch's own, in short."""
    frame = sys._getframe(2)  # noqa: SLF001 - traceback.extract_stack reads the source of every frame
    while frame.f_back is not None and TORCH_FOLDER in Path(frame.f_code.co_filename).parents:
        if frame.f_back.f_code.co_filename == nn.modules.module.__file__:
            break  # a forward of torch's own, such as that of a layer with parametrizations
        frame = frame.f_back
    path = Path(frame.f_code.co_filename)
    parts = path.parts
    if "site-packages" in parts:
        shown = "/".join(parts[parts.index("site-packages") + 1 :])
    else:
        shown = str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name
    return f"{shown}:{frame.f_lineno}"
