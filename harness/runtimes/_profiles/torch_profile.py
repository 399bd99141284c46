"""How long each operation of a torch module takes, by torch's own profiler, and each layer of eager torch, by hooks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.runtimes import NodeTimes
from harness.runtimes._profiles.node_times import Event, node_times, read_trace, span_of

if TYPE_CHECKING:
    from torch import nn

WARMUP = 3
"""Calls before those that count: TorchScript optimizes a module in its first calls."""
_RUN = "harness run"
_PARENT = "forward"
_NOT_PARTS = {"TOP", "SELF"}
# One module of TorchScript's hierarchy: ``features(Sequential)::forward``.
_MODULE = re.compile(r"(?P<name>[^.()]+)\((?P<kind>[^)]*)\)::")
_UNCALLED = {"ModuleList", "ModuleDict"}


def profiled_times(
    call: Callable[[], object], runs: int, trace: Path, model: Callable[..., Any]
) -> tuple[NodeTimes, ...]:
    """The operations of ``call``, of ``model``, that no other operation called, with their times in ``runs`` runs."""
    from torch import profiler

    for _ in range(WARMUP):
        call()
    with profiler.profile(activities=[profiler.ProfilerActivity.CPU], with_modules=True) as profile:
        for _ in range(runs):
            with profiler.record_function(_RUN):
                call()
    profile.export_chrome_trace(str(trace))
    events = read_trace(trace)
    spans = sorted(span_of(event) for event in events if event["name"] == _RUN)
    paths = _Paths(model)
    return node_times((_event(event, paths) for event in events if _is_operation(event)), spans)


def _is_operation(event: dict[str, Any]) -> bool:
    return event.get("cat") == "cpu_op" and event["name"] != _PARENT


def _event(event: dict[str, Any], paths: _Paths) -> Event:
    hierarchy = str(event.get("args", {}).get("Module Hierarchy", ""))
    parts = [match.group("name", "kind") for match in _MODULE.finditer(hierarchy)]
    name = str(event["name"])
    module = paths.of([part for part in parts if part[0] not in _NOT_PARTS])
    return Event(NodeTimes(name, name, "torch", module), *span_of(event))


class _Paths:
    """Finds the paths of modules in TorchScript's hierarchy, which leaves out lists and dicts of modules."""

    def __init__(self, model: Callable[..., Any]) -> None:
        from torch import nn

        self._kinds: dict[str, str] = {}
        self._children: dict[str, list[str]] = {}
        modules = model.named_modules(remove_duplicate=False) if isinstance(model, nn.Module) else ()
        for path, each in modules:
            self._kinds[path] = str(getattr(each, "original_name", type(each).__name__))
            if path:
                self._children.setdefault(path.rpartition(".")[0], []).append(path)

    def of(self, parts: Sequence[tuple[str | Any, ...]]) -> str:
        """The path of the module at ``parts``, each a name and a class; the names alone where not just one fits."""
        paths = [""]
        for name, kind in parts:
            called = [child for path in paths for child in self._called(path)]
            paths = [path for path in called if path.rpartition(".")[2] == name and self._kinds[path] == kind]
        return paths[0] if len(paths) == 1 else ".".join(name for name, _ in parts)

    def _called(self, path: str) -> Iterator[str]:
        """The modules that the one at ``path`` may call as its own."""
        for child in self._children.get(path, ()):
            yield child
            if self._kinds[child] in _UNCALLED:
                yield from self._called(child)


def layer_times(module: nn.Module, call: Callable[[], object], runs: int) -> tuple[NodeTimes, ...]:
    """Each call of a layer of ``module`` in eager torch, with its time in ``runs`` runs of ``call``.

    A layer is a module without modules of its own. What a forward computes outside of its layers is not in it.
    """
    from time import perf_counter_ns

    events: list[Event] = []
    begun: list[float] = []

    def before(*_arguments: Any) -> None:
        begun.append(perf_counter_ns() / 1e3)

    def after_call_of(path: str) -> Callable[..., None]:
        def after(layer: nn.Module, *_arguments: Any) -> None:
            node = NodeTimes(path, type(layer).__name__, "eager", path)
            events.append(Event(node, begun.pop(), perf_counter_ns() / 1e3))

        return after

    hooks = []
    for path, layer in module.named_modules():
        if next(layer.children(), None) is None:
            hooks += [layer.register_forward_pre_hook(before), layer.register_forward_hook(after_call_of(path))]
    spans = []
    try:
        for number in range(WARMUP + runs):
            begin = perf_counter_ns() / 1e3
            call()
            if number >= WARMUP:
                spans.append((begin, perf_counter_ns() / 1e3))
    finally:
        for hook in hooks:
            hook.remove()
    return node_times(events, spans)
