"""How long each node of a model takes, from a trace in Chrome's format: ONNX Runtime's profile, or torch's profiler.

A trace holds events with a begin and a duration in microseconds. :func:`node_times` takes the outermost events of each
run, so that the nodes in a branch or a loop count once, in the node that holds them. :func:`profiled_times` has torch's
profiler write one, and :func:`layer_times` times the layers of eager torch by hooks.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.runtimes import NodeTimes

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a trace: what ran, and from when to when in microseconds."""

    node: NodeTimes
    begin: float
    end: float


def read_trace(path: Path) -> list[dict[str, Any]]:
    """The complete events of the trace at ``path``, in its order."""
    content = json.loads(path.read_bytes())
    events = content["traceEvents"] if isinstance(content, dict) else content
    return [event for event in events if "ts" in event and "dur" in event]


def span_of(event: dict[str, Any]) -> tuple[float, float]:
    """Begin and end of an event in microseconds."""
    begin = float(event["ts"])
    return begin, begin + float(event["dur"])


def node_times(events: Iterable[Event], runs: Sequence[tuple[float, float]]) -> tuple[NodeTimes, ...]:
    """The nodes in the order of execution, with their time in each of ``runs``.

    Where the runs executed different nodes, as branches and loops may, times are summed by name.
    """
    ordered = sorted(events, key=lambda event: (event.begin, -event.end))
    by_run = [_outermost([each for each in ordered if begin <= each.begin and each.end <= end]) for begin, end in runs]
    if not by_run:
        return ()
    named = [[(event.node.node, event.node.operator) for event in run] for run in by_run]
    if all(names == named[0] for names in named):
        return tuple(
            replace(first.node, us=tuple(run[position].end - run[position].begin for run in by_run))
            for position, first in enumerate(by_run[0])
        )
    nodes: dict[tuple[str, str], NodeTimes] = {}
    totals: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * len(by_run))
    for number, run in enumerate(by_run):
        for event in run:
            key = event.node.node, event.node.operator
            nodes.setdefault(key, event.node)
            totals[key][number] += event.end - event.begin
    return tuple(replace(node, us=tuple(totals[key])) for key, node in nodes.items())


def _outermost(events: Sequence[Event]) -> list[Event]:
    kept: list[Event] = []
    for event in events:
        if not kept or event.begin >= kept[-1].end:
            kept.append(event)
    return kept


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
