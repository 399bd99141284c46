"""An ``nn.Module`` as a reference that shows its inside: its calls, and the same run in float64.

A layer is a module during whose call no other module is called; so ``nn.MultiheadAttention`` is one layer, although it
has children. What functions outside every layer compute is seen where a layer takes it, or where a module returns it.

In float64 the run is steered by hooks: each layer can be given the recorded inputs of its own call, so that its error
is that of its own rounding alone, whatever happened before.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import NDArray
from torch import fx, nn
from torch.utils import _pytree as pytree

from harness.inside.calls import FUNCTIONAL, Call, NotVisible, Recording, ValueStore, Visit, shortened_arguments
from harness.model.binding import TakesFlatInputs
from harness.model.precisions import LARGE_MODULE_BYTES, run_in_float64_by_layer
from harness.model.running import run_module, size_in_bytes
from harness.model.tensors import copy_module, copy_tensor, to_numpy, to_torch

Array = NDArray[Any]

PLAIN = (int, float, bool, str, tuple, list, torch.dtype, type(None))


class TorchReference:
    """The inside of ``module``, called with ``inputs`` by position. Neither is changed.

    ``precision`` is the dtype in which the module is run as the reference; None for its own.
    """

    matched = None
    notes = ()

    def __init__(
        self,
        module: nn.Module,
        inputs: Sequence[torch.Tensor],
        seed: int,
        store: ValueStore,
        precision: str | None = None,
    ) -> None:
        if isinstance(module, torch.jit.ScriptModule):
            raise NotVisible("the reference is TorchScript, which shows no calls of its layers")
        self._original, self._inputs, self._seed, self._store = module, inputs, seed, store
        self._prefix, self._exported_prefix = _wrappers(module)
        self._precision: torch.dtype | None = None if precision is None else getattr(torch, precision)
        self._module = module if self._precision is None else copy_module(module).to(self._precision)
        self.recording = self._recorded()

    def float64(self, cuts: frozenset[int], visit: Visit) -> None:
        """See :class:`harness.inside.calls.ReferenceInside`.

        Without cuts, the weights are those of the original module; else those of the precision that was asked for.
        """
        module = self._module if cuts else self._original
        inputs = [each.double() if each.is_floating_point() else copy_tensor(each) for each in self._inputs]
        if cuts and self._precision is not None:
            inputs = [each.to(self._precision).double() if each.is_floating_point() else each for each in inputs]
        for by_layer in (True, False) if size_in_bytes(module) >= LARGE_MODULE_BYTES else (False,):
            run = _Float64Run(self.recording, self._layer_paths, iter(self._returns), cuts, visit)
            hooked = copy_module(module) if by_layer else copy_module(module).double()
            _hook(hooked, run.before, run.after)
            try:
                run_in = run_in_float64_by_layer if by_layer else run_module
                outputs = run_in(hooked, inputs, self._seed)
            except NotVisible:
                raise
            except Exception as error:
                raise NotVisible(f"the reference does not run in float64: {type(error).__name__}: {error}") from error
            if outputs is not None:
                break
        assert outputs is not None
        run.end(outputs)

    def run_once(self) -> None:
        """Run the reference once more, in the same way as it was recorded: hooks turn torch's fast paths off."""
        module = copy_module(self._module)
        _hook(module, _leave, _leave)
        run_module(module, self._tensors(), self._seed)

    def _tensors(self) -> list[torch.Tensor]:
        tensors = [copy_tensor(each) for each in self._inputs]
        if self._precision is not None:
            tensors = [each.to(self._precision) if each.is_floating_point() else each for each in tensors]
        return tensors

    def _recorded(self) -> Recording:
        tensors = self._tensors()
        run = _RecordedRun(Recording(self._store), self._prefix, self._exported_prefix)
        run.begin(tensors)
        module = copy_module(self._module)
        _hook(module, run.before, run.after)
        run.end(run_module(module, tensors, self._seed))
        self._layer_paths, self._returns = run.layer_paths, run.returns
        return run.recording


@dataclass
class _Frame:
    """A module that is being called."""

    path: str
    inputs: list[torch.Tensor]
    keys: list[str] | None
    is_layer: bool = True


Before = Callable[[str, nn.Module, Any, Any], Any]
After = Callable[[str, nn.Module, Any], Any]


def _hook(module: nn.Module, before: Before, after: After) -> None:
    """Call ``before`` and ``after`` around each call inside ``module``, with the path of the module that is called."""
    for path, inner in module.named_modules():
        if isinstance(inner, torch.jit.ScriptModule):
            continue

        def on_entry(called: nn.Module, args: Any, kwargs: Any, path: str = path) -> Any:
            return before(path, called, args, kwargs)

        def on_exit(called: nn.Module, _args: Any, _kwargs: Any, outputs: Any, path: str = path) -> Any:
            return after(path, called, outputs)

        inner.register_forward_pre_hook(on_entry, with_kwargs=True)
        inner.register_forward_hook(on_exit, with_kwargs=True)


def _leave(*_: Any) -> None:
    """Change nothing."""


def _tensors(structure: Any) -> list[torch.Tensor]:
    leaves = pytree.tree_leaves(structure)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and not isinstance(leaf, nn.Parameter)]


@dataclass
class _RecordedRun:
    """Hooks that record every call."""

    recording: Recording
    prefix: str
    exported_prefix: str
    layer_paths: list[str] = field(default_factory=list)
    returns: list[tuple[int, ...]] = field(default_factory=list)
    _stack: list[_Frame] = field(default_factory=list)
    _latest: dict[str, int] = field(default_factory=dict)
    _calls: Counter[str] = field(default_factory=Counter)

    def begin(self, inputs: Sequence[torch.Tensor]) -> None:
        self.recording.inputs = tuple(self._new(self._key(tensor)) for tensor in inputs)

    def before(self, path: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self._stack:
            self._stack[-1].is_layer = False
        inputs = _tensors((args, kwargs))
        # A module that works in place changes its inputs, so they are read before the call if it may be a layer.
        may_be_layer = not any(module.children()) or isinstance(module, nn.MultiheadAttention)
        self._stack.append(_Frame(path, inputs, [self._key(each) for each in inputs] if may_be_layer else None))

    def after(self, path: str, module: nn.Module, outputs: Any) -> None:
        frame = self._stack.pop()
        if not frame.is_layer:
            self.returns.append(tuple(self._known(self._key(each), path) for each in _tensors(outputs)))
            return
        keys = [self._key(each) for each in frame.inputs] if frame.keys is None else frame.keys
        around = self._stack[-1].path if self._stack else ""
        inputs = tuple(self._known(key, around) for key in keys)
        own = dict(zip(keys, inputs, strict=True))
        results = []
        for tensor in _tensors(outputs):
            key = self._key(tensor)
            results.append(own[key] if key in own else self._new(key))
        number = self._calls[path]
        self._calls[path] += 1
        self.layer_paths.append(path)
        self.recording.calls.append(
            Call(
                path=_without(self.prefix, path),
                scope=_without(self.exported_prefix, path),
                type=type(module).__name__,
                number=number,
                arguments=arguments_of(module),
                inputs=inputs,
                outputs=tuple(results),
            )
        )

    def end(self, outputs: Sequence[torch.Tensor]) -> None:
        self.recording.results = tuple(self._known(self._key(each), "") for each in outputs)

    def _known(self, key: str, around: str) -> int:
        """The tensor with the values under ``key``; a new one that functions of the module ``around`` computed."""
        if key in self._latest:
            return self._latest[key]
        number = self._new(key)
        count = self._calls[f"{around} {FUNCTIONAL}"]
        self._calls[f"{around} {FUNCTIONAL}"] += 1
        path, scope = _without(self.prefix, around), _without(self.exported_prefix, around)
        self.recording.calls.append(Call(path, scope, FUNCTIONAL, count, outputs=(number,)))
        return number

    def _key(self, tensor: torch.Tensor) -> str:
        return self.recording.store.put(to_numpy(tensor))

    def _new(self, key: str) -> int:
        self._latest[key] = self.recording.add(key)
        return self._latest[key]


@dataclass
class _Float64Run:
    """Hooks that visit the tensors of a run in float64, and replace those that are cut."""

    recording: Recording
    layer_paths: Sequence[str]
    returns: Iterator[tuple[int, ...]]
    cuts: frozenset[int]
    visit: Visit
    _position: int = 0
    _stack: list[tuple[int, bool]] = field(default_factory=list)
    _visited: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._layers = [call for call in self.recording.calls if not call.is_functional]
        self._visited |= set(self.recording.inputs)

    def before(self, path: str, _module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Give a layer the recorded inputs that are cut. A module around it has another path than the next layer."""
        is_layer = self._position < len(self._layers) and path == self.layer_paths[self._position]
        self._stack.append((self._position, is_layer))
        return self._replaced((args, kwargs), self._layers[self._position].inputs) if is_layer else None

    def after(self, _path: str, _module: nn.Module, outputs: Any) -> Any:
        position, is_layer = self._stack.pop()
        if not is_layer:
            return self._replaced(outputs, next(self.returns, ()))
        call = self._layers[position]
        self._position += 1
        return self._replaced(outputs, call.outputs)

    def end(self, outputs: Sequence[torch.Tensor]) -> None:
        if self._position != len(self._layers) or len(outputs) != len(self.recording.results):
            raise NotVisible("the reference calls other layers in float64")
        for number, tensor in zip(self.recording.results, outputs, strict=True):
            self._seen(number, tensor)

    def _replaced(self, structure: Any, numbers: Sequence[int]) -> Any:
        leaves, spec = pytree.tree_flatten(structure)
        tensors = [
            index
            for index, leaf in enumerate(leaves)
            if isinstance(leaf, torch.Tensor) and not isinstance(leaf, nn.Parameter)
        ]
        if len(tensors) != len(numbers):
            raise NotVisible("the reference calls other layers in float64")
        for index, number in zip(tensors, numbers, strict=True):
            self._seen(number, leaves[index])
            if number in self.cuts:
                leaves[index] = _as(self.recording.values(number), leaves[index])
        return pytree.tree_unflatten(leaves, spec)

    def _seen(self, number: int, tensor: torch.Tensor) -> None:
        if number in self._visited:
            return
        self._visited.add(number)
        if tuple(tensor.shape) != self.recording.values(number).shape:
            raise NotVisible("the reference computes other shapes in float64")
        self.visit(number, to_numpy(tensor))


def _as(values: Array, like: torch.Tensor) -> torch.Tensor:
    """The recorded values in the dtype of ``like``."""
    return to_torch(values).to(like.dtype)


def _without(prefix: str, path: str) -> str:
    return f"{path}.".removeprefix(prefix).removesuffix(".")


def _wrappers(module: nn.Module) -> tuple[str, str]:
    """What paths begin with because harness wraps the user's module: in all, and what exporters do not see of it."""
    prefix = exported = ""
    if isinstance(module, TakesFlatInputs):
        prefix = exported = "nested."
        module = module.nested
    if isinstance(module, fx.GraphModule) and [name for name, _ in module.named_children()] == ["layer"]:
        prefix += "layer."
    return prefix, exported


def arguments_of(module: nn.Module) -> str:
    """The arguments of a layer's constructor that are not at their defaults, as far as its attributes show them."""
    try:
        parameters = inspect.signature(type(module)).parameters.values()
    except (TypeError, ValueError):
        return ""
    shown = []
    for parameter in parameters:
        if parameter.name in {"device", "dtype"} or not hasattr(module, parameter.name):
            continue
        value = getattr(module, parameter.name)
        if isinstance(parameter.default, bool) and (value is None or isinstance(value, torch.Tensor)):
            value = value is not None
        if isinstance(value, PLAIN) and value != parameter.default and value is not parameter.default:
            shown.append(f"{parameter.name}={value!r}")
    return shortened_arguments(shown)
